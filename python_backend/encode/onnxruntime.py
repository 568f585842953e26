"""The vision stage with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_backend.arrays import Array, to_host
from python_backend.encode.base import repeat_plan_inputs
from python_backend.onnx_session import open_session


class OnnxRuntimeEncoder:
    """Runs `vision_encoder.onnx`, whose inputs are in the family's order."""

    def __init__(self, path: Path, *, num_threads: int) -> None:
        self._session = open_session(path, num_threads=num_threads)
        self._names = [one.name for one in self._session.get_inputs()]

    def encode(self, *inputs: Array) -> NDArray[np.float32]:
        """See `VisionEncoder.encode`."""
        arrays = [to_host(array) for array in repeat_plan_inputs(inputs)]
        features: NDArray[np.float32]
        (features,) = self._session.run(["FEATURES"], dict(zip(self._names, arrays, strict=True)))
        return features
