"""Interface of the vision stage.

Shape letters: U units, F frames of a unit, S side in pixels, or H and W as decoded, P tokens of a
unit, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from groundserve.limits import MIB
from python_backend.arrays import Array

_USUAL_UNIT_BYTES = 2 * MIB
"""More than the frames of any family whose decoder resizes them; a frame of 720p has 2.6 MiB."""


class EncodeFunction(Protocol):
    """`VisionEncoder.encode` alone: in the server another model's, behind a call."""

    def __call__(self, *inputs: Array) -> Array:
        """See `VisionEncoder.encode`."""
        ...


class VisionEncoder(Protocol):
    """Encodes the units of one video."""

    def encode(self, *inputs: Array) -> Array:
        """Return (U, P, D): float32, or float16 from an engine of 16 bits.

        Args:
            inputs: In the family's order, its streams first: uint8 (U, S, S, 3), (U, F, S, S, 3) or
                (U, H, W, 3), RGB. Then its plan inputs, float32, which have no units: each is
                the same for all.
        """
        ...


def split_inputs(inputs: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Tell streams from plan inputs: frames alone are uint8."""
    streams = [one for one in inputs if _is_uint8(one)]
    return streams, list(inputs[len(streams) :])


def units_at_once(most: int, frames: Array) -> int:
    """Return how many units PyTorch computes at once: fewer where frames are as decoded and large.

    Args:
        most: Of usual size; of larger frames as many as have the bytes of those.
        frames: uint8, units in front.
    """
    return max(1, min(most, most * _USUAL_UNIT_BYTES // frames[0].nbytes))


def repeat_plan_inputs(inputs: Sequence[Array]) -> list[Array]:
    """Give plan inputs, too, the units in front, so that all inputs are batches of units.

    Streams stay where they lie; the others are small and in host memory.
    """
    streams, plan_inputs = split_inputs(inputs)
    num_units = len(streams[0])
    return [*streams, *(np.repeat(np.asarray(one)[None], num_units, axis=0) for one in plan_inputs)]


def _is_uint8(array: Array) -> bool:
    # "uint8" of numpy, "torch.uint8" of PyTorch, which may not be installed.
    return str(array.dtype).removeprefix("torch.") == "uint8"
