"""Interface of the vision stage."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class VisionEncoder(Protocol):
    """Encodes frames and pools them to the token grid."""

    def encode(
        self, frames: NDArray[np.uint8], pooling: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return float32 (n, g*g, D_v).

        Args:
            frames: uint8 (n, S, S, 3), RGB.
            pooling: float32 (g, s), from `groundserve.grid.pooling_weights`.
        """
        ...
