"""Interface of the vision stage.

Shape letters: U units, F frames of a unit, S side in pixels, or H and W as decoded, P tokens of a
unit, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from groundserve.limits import MIB
from python_backend.arrays import Array

_USUAL_FRAME_BYTES = 2 * MIB
"""More than a frame of any family whose decoder resizes them; one of 720p has 2.6 MiB."""


EncodeFunction = Callable[..., Array]
"""`VisionEncoder.encode` alone: in the server another model's, behind a call."""


class VisionEncoder(Protocol):
    """Encodes the units of one video."""

    def encode(self, *inputs: Array) -> Array:
        """Return (U, P, D): float32, or float16 from an engine of 16 bits.

        Inputs are in the family's order, its streams first: uint8 (U, S, S, 3), (U, F, S, S, 3) or
        (U, H, W, 3), RGB. Then its plan inputs, float32: with U units in front, or with 1 where it
        is the same for all.
        """


def split_inputs(inputs: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Tell streams from plan inputs: frames alone are uint8."""
    streams = [one for one in inputs if _is_uint8(one)]
    return streams, list(inputs[len(streams) :])


def units_at_once(most_frames: int, streams: Sequence[Array]) -> int:
    """Return how many units PyTorch computes at once: fewer of several frames, or of large ones."""
    by_number = (most_frames // (one.shape[1] if one.ndim == 5 else 1) for one in streams)
    by_size = (most_frames * _USUAL_FRAME_BYTES // one[0].nbytes for one in streams)
    return max(1, min(*by_number, *by_size))


def repeat_plan_inputs(inputs: Sequence[Array]) -> list[Array]:
    """Give plan inputs that all units share one for each, so that all are batches of units.

    Streams stay where they lie; the others are small and in host memory.
    """
    streams, plan_inputs = split_inputs(inputs)
    num_units = len(streams[0])
    others = [np.asarray(one) for one in plan_inputs]
    return [
        *streams,
        *(np.repeat(one, num_units, axis=0) if len(one) == 1 else one for one in others),
    ]


def _is_uint8(array: Array) -> bool:
    if isinstance(array, np.ndarray):
        return array.dtype == np.uint8
    return str(array.dtype) == "torch.uint8"  # PyTorch may not be installed
