"""The vision stage with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_backend.arrays import Array, to_host
from python_backend.onnx_session import open_session


class OnnxRuntimeEncoder:
    """Runs `vision_encoder.onnx`."""

    def __init__(self, path: Path, *, num_threads: int) -> None:
        self._session = open_session(path, num_threads=num_threads)

    def encode(self, frames: Array, pooling: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `VisionEncoder.encode`."""
        # (n, g, s): the graph has one matrix a frame, so that frames are a batch dimension
        # throughout.
        pool = np.repeat(pooling[None], len(frames), axis=0)
        features: NDArray[np.float32]
        (features,) = self._session.run(["FEATURES"], {"PIXELS": to_host(frames), "POOL": pool})
        return features
