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

    of_units: Tensors
    """By name, each with u units in front: streams, uint8 (u, S, S, 3), (u, F, S, S, 3) or, as
    decoded, (u, H, W, 3), the first of them first, and plan inputs of units, float32."""
    shared: dict[str, NDArray[np.float32]]
    """By name, the other plan inputs, float32 (1, ...)."""

    @classmethod
    def from_batch(cls, tensors: Tensors, inputs: VisionInputs, limits: Limits) -> EncodeRequest:
        """Read a request's tensors, each with u units in front.

        Args:
            tensors: A request's.
            inputs: Of the vision stage.
            limits: Ceilings on the size of a frame.

        Raises:
            InvalidRequestError: u is 0, or not the same throughout, frames as decoded are of a size
                that is not served, or a plan input is larger than any plan's, or it is not the same
                for all units where they share it.
        """
        first, *others = inputs.stream_names
        num_units = len(tensors[first])
        if num_units == 0:
            raise InvalidRequestError(f"{first} must hold at least one frame, got 0")
        inputs.check_frames(tuple(tensors[first].shape), limits)
        for name in (*others, *(one.name for one in inputs.plan_inputs if one.of_units)):
            if len(tensors[name]) != num_units:
                raise InvalidRequestError(
                    f"{name} must have as many units as {first}, {num_units}, "
                    f"got {len(tensors[name])}"
                )
        of_units = {name: tensors[name] for name in inputs.stream_names}
        shared = {}
        for one in inputs.plan_inputs:
            array = tensors[one.name]
            _check_plan_input(one, array)
            if one.of_units:
                of_units[one.name] = array
            else:
                shared[one.name] = array[:1]
        return cls(of_units, shared)

    @property
    def num_units(self) -> int:
        """U."""
        return len(next(iter(self.of_units.values())))


def encode_merged(
    requests: Sequence[EncodeRequest], encode: EncodeFunction, *, names: Sequence[str]
) -> list[Array]:
    """Encode the units of all requests with equal shared inputs, and units of one shape, in a call.

    Args:
        requests: Those of one dynamic batch that are valid.
        encode: As `VisionEncoder.encode`.
        names: Of its inputs, in the family's order.

    Returns:
        One (u, P, D) a request, in their order.
    """
    # By content: shapes differ between videos of different length, and arrays of different shape or
    # values cannot be one call.
    equal: dict[tuple[object, ...], list[int]] = {}
    for i, request in enumerate(requests):
        shapes = (tuple(array.shape[1:]) for array in request.of_units.values())
        shared = ((array.shape, array.tobytes()) for array in request.shared.values())
        equal.setdefault((*shapes, *shared), []).append(i)
    features: dict[int, Array] = {}
    for members in equal.values():
        together = [requests[i] for i in members]
        inputs: Tensors = {**together[0].shared}
        for name in together[0].of_units:
            inputs[name] = concatenate([request.of_units[name] for request in together])
        encoded = encode(*(inputs[name] for name in names))
        start = 0
        for i, request in zip(members, together, strict=True):
            # A view: nothing is copied until the tensor is handed over.
            features[i] = encoded[start : start + request.num_units]
            start += request.num_units
    return [features[i] for i in range(len(requests))]


def _check_plan_input(plan_input: PlanInput, array: NDArray[np.float32]) -> None:
    """Check (u, ...)."""
    name, shape = plan_input.name, array.shape[1:]
    sizes = list(zip(plan_input.dims, plan_input.max_dims, strict=True))
    fits = len(shape) == len(sizes) and all(
        1 <= size <= most if dim < 0 else size == dim
        for size, (dim, most) in zip(shape, sizes, strict=True)
    )
    if not fits:
        rule = ", ".join(f"1..{most}" if dim < 0 else str(dim) for dim, most in sizes)
        raise InvalidRequestError(f"{name} must have the shape (n, {rule}), got {array.shape}")
    if plan_input.of_units:
        if not np.isfinite(array).all():
            raise InvalidRequestError(f"{name} must be finite")
        return
    # One a unit, so that Triton may merge requests along them; ours are equal within a request.
    if not (array == array[0]).all() or not np.isfinite(array[0]).all():
        raise InvalidRequestError(f"{name} must be finite and the same for all frames")
