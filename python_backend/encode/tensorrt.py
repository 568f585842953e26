"""The vision stage as a TensorRT plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from python_backend.arrays import Array, concatenate, to_torch

if TYPE_CHECKING:
    from python_backend.tensorrt_runtime import PlanRunner


class TensorRTEncoder:
    """Runs `vision_encoder.plan`, as many frames at a time as it takes."""

    def __init__(self, runner: PlanRunner) -> None:
        self._runner = runner
        self._max_frames = runner.max_shape("PIXELS")[0]

    def encode(self, frames: Array, pooling: NDArray[np.float32]) -> Array:
        """See `VisionEncoder.encode`; float16, on the GPU."""
        import torch

        pixels = to_torch(frames, self._runner.device)
        # Its rows are the same for every frame, and the plan reads them one after another.
        pool = to_torch(pooling, self._runner.device).expand(len(pixels), -1, -1).contiguous()
        features = [
            self._runner.run({"PIXELS": some.contiguous(), "POOL": pool[: len(some)]})["FEATURES"]
            for some in torch.split(pixels, self._max_frames)
        ]
        return concatenate(features)
