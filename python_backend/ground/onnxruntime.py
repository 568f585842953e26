"""The grounding stage with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_backend.arrays import Array, to_host
from python_backend.interruption import run_session
from python_backend.onnx_session import open_session


class OnnxRuntimeGrounder:
    """Runs `grounding.onnx`."""

    def __init__(self, path: Path, *, num_threads: int) -> None:
        self._session = open_session(path, num_threads=num_threads)

    def ground(self, features: Array, text_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Implement `Grounder.ground`."""
        inputs = {"FEATURES": to_host(features), "TEXT_IDS": text_ids}
        frame_logits: NDArray[np.float32]
        (frame_logits,) = run_session(self._session.run, ["FRAME_LOGITS"], inputs)
        return frame_logits
