"""Merge the encode requests of one dynamic batch into as few encoder calls as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.families.vision_inputs import VisionInputs
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
    def from_batch(cls, tensors: Tensors, inputs: VisionInputs) -> EncodeRequest:
        """Take a call's tensors, each with u units in front, apart."""
        shared = {one.name: tensors[one.name][:1] for one in inputs.plan_inputs if not one.of_units}
        # In the family's order, the frames first.
        of_units = {name: tensors[name] for name in inputs.names if name not in shared}
        return cls(of_units, shared)

    @property
    def num_units(self) -> int:
        """Its units."""
        return len(next(iter(self.of_units.values())))


def encode_merged(
    requests: Sequence[EncodeRequest], encode: EncodeFunction, *, names: Sequence[str]
) -> list[Array]:
    """Encode the units of all requests with equal shared inputs, and units of one shape, in a call.

    `names` are those of the encoder's inputs, in its order.

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
