"""Interface of the vision stage.

Shape letters: U units, F frames of a unit, S side in pixels, P tokens of a unit, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from python_backend.arrays import Array


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
            inputs: In the family's order, its streams first: uint8 (U, S, S, 3) or
                (U, F, S, S, 3), RGB. Then its plan inputs, float32, which have no units: each is
                the same for all.
        """
        ...


def split_inputs(inputs: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Tell streams from plan inputs: frames alone are uint8."""
    streams = [one for one in inputs if _is_uint8(one)]
    return streams, list(inputs[len(streams) :])


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
