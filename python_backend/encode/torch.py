"""The vision stage in PyTorch: the reference numerics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from groundserve.modeling.vision import VisionEncoder as VisionModel

# Softmax is materialised (16 heads x 729 x 729 floats = 34 MB a frame), so few frames at a time.
_MAX_FRAMES_AT_ONCE = 8


class TorchEncoder:
    """Runs `groundserve.modeling.vision`."""

    def __init__(self, model: VisionModel) -> None:
        self._model = model

    def encode(
        self, frames: NDArray[np.uint8], pooling: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `VisionEncoder.encode`."""
        import torch

        pool = torch.from_numpy(pooling)
        with torch.inference_mode():
            encoded = [
                self._model(piece, pool.expand(len(piece), -1, -1))
                for piece in torch.split(torch.from_numpy(frames), _MAX_FRAMES_AT_ONCE)
            ]
            features: NDArray[np.float32] = torch.cat(encoded).to(torch.float32).numpy()
        return features
