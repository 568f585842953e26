"""Merge the encode requests of one dynamic batch into as few encoder calls as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import PlanInput
from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from python_backend.arrays import Array, concatenate
from python_backend.encode import EncodeFunction
from python_backend.triton._tensors import Tensors


@dataclass(frozen=True, eq=False)
class EncodeRequest:
    """Units of one video, and what all of them share."""

    frames: Array
    """uint8 (u, S, S, 3), (u, F, S, S, 3) or, as decoded, (u, H, W, 3)."""
    plan_inputs: tuple[NDArray[np.float32], ...]
    """In the family's order, float32, without the units."""

    @classmethod
    def from_batch(cls, tensors: Tensors, inputs: VisionInputs, limits: Limits) -> EncodeRequest:
        """Read a request's tensors, each with u units in front.

        Args:
            tensors: A request's.
            inputs: Of the vision stage.
            limits: Ceilings on the size of a frame.

        Raises:
            InvalidRequestError: u is 0, frames as decoded are of a size that is not served, or a
                plan input is larger than any plan's, or it is not the same for all units.
        """
        frames = tensors[inputs.stream.name]
        if len(frames) == 0:
            raise InvalidRequestError(f"{inputs.stream.name} must hold at least one frame, got 0")
        inputs.check_frames(tuple(frames.shape), limits)
        shared = tuple(_read_shared(one, tensors[one.name]) for one in inputs.plan_inputs)
        return cls(frames, shared)


def encode_merged(requests: Sequence[EncodeRequest], encode: EncodeFunction) -> list[Array]:
    """Encode the units of all requests with equal plan inputs, and frames of one size, in one call.

    Args:
        requests: Those of one dynamic batch that are valid.
        encode: As `VisionEncoder.encode`.

    Returns:
        One (u, P, D) a request, in their order.
    """
    # By content: shapes differ between videos of different length, and arrays of different shape or
    # values cannot be one call.
    equal: dict[tuple[object, ...], list[int]] = {}
    for i, request in enumerate(requests):
        shared = ((array.shape, array.tobytes()) for array in request.plan_inputs)
        key = (tuple(request.frames.shape[1:]), *shared)
        equal.setdefault(key, []).append(i)
    features: dict[int, Array] = {}
    for members in equal.values():
        frames = [requests[i].frames for i in members]
        encoded = encode(concatenate(frames), *requests[members[0]].plan_inputs)
        start = 0
        for i, part in zip(members, frames, strict=True):
            # A view: nothing is copied until the tensor is handed over.
            features[i] = encoded[start : start + len(part)]
            start += len(part)
    return [features[i] for i in range(len(requests))]


def _read_shared(plan_input: PlanInput, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Check (u, ...) and return one unit's."""
    name, shape = plan_input.name, array.shape[1:]
    sizes = list(zip(plan_input.dims, plan_input.max_dims, strict=True))
    fits = len(shape) == len(sizes) and all(
        1 <= size <= most if dim < 0 else size == dim
        for size, (dim, most) in zip(shape, sizes, strict=True)
    )
    if not fits:
        rule = ", ".join(f"1..{most}" if dim < 0 else str(dim) for dim, most in sizes)
        raise InvalidRequestError(f"{name} must have the shape (n, {rule}), got {array.shape}")
    # One a unit, so that Triton may merge requests along them; ours are equal within a request.
    is_same = np.array_equal(array, np.broadcast_to(array[0], array.shape))
    if not is_same or not np.isfinite(array[0]).all():
        raise InvalidRequestError(f"{name} must be finite and the same for all frames")
    one_unit: NDArray[np.float32] = array[0]
    return one_unit
