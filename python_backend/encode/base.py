"""Interface of the vision stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from python_backend.arrays import Array

EncodeFunction = Callable[[Array, NDArray[np.float32]], Array]
"""`VisionEncoder.encode` alone: in the server another model's, behind a call."""


class VisionEncoder(Protocol):
    """Encodes frames and pools them to the token grid."""

    def encode(self, frames: Array, pooling: NDArray[np.float32]) -> Array:
        """Return (n, g*g, D_v): float32, or float16 from an engine of 16 bits.

        Args:
            frames: uint8 (n, S, S, 3), RGB.
            pooling: float32 (g, s), from `groundserve.families.videoitg.grid.pooling_weights`.
        """
        ...
