"""The vision stage with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from python_backend.arrays import Array, to_host
from python_backend.encode.base import repeat_plan_inputs
from python_backend.onnx_session import open_session


class OnnxRuntimeEncoder:
    """Runs `vision_encoder.onnx`, whose inputs are in the family's order."""

    def __init__(self, path: Path, *, num_threads: int) -> None:
        self._session = open_session(path, num_threads=num_threads)
        inputs = self._session.get_inputs()
        self._names = [one.name for one in inputs]
        # Most units of one run: a graph in int8 takes one, and scales what it computes for that
        # one alone; any number where the dimension has a name.
        units = inputs[0].shape[0]
        self._max_units = units if isinstance(units, int) else None

    def encode(self, *inputs: Array) -> NDArray[np.float32]:
        """See `VisionEncoder.encode`."""
        arrays = [to_host(array) for array in repeat_plan_inputs(inputs)]
        num_units = len(arrays[0])
        step = self._max_units or num_units
        runs = [
            self._run([array[start : start + step] for array in arrays])
            for start in range(0, num_units, step)
        ]
        return runs[0] if len(runs) == 1 else np.concatenate(runs)

    def _run(self, arrays: list[NDArray[Any]]) -> NDArray[np.float32]:
        features: NDArray[np.float32]
        (features,) = self._session.run(["FEATURES"], dict(zip(self._names, arrays, strict=True)))
        return features
