"""The vision stage with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from groundserve.engines.manifest import ROW_BYTES_KEY
from groundserve.errors import EngineMismatchError
from python_backend.arrays import Array, to_host
from python_backend.encode.base import repeat_plan_inputs
from python_backend.interruption import run_session
from python_backend.onnx_session import open_session

if TYPE_CHECKING:
    import onnxruntime

_BATCH_BYTES = 10 * 2**20
"""Most bytes of the widest tensor of units that run together, where one alone has less.

A layer's tensors then stay in a cache of some 32 MiB, and the C library keeps their memory from
layer to layer instead of asking the system for pages each time.
"""


class OnnxRuntimeEncoder:
    """Runs `vision_encoder.onnx`, whose inputs are in the family's order, some units at a time."""

    def __init__(self, path: Path, *, num_threads: int) -> None:
        self._session = open_session(path, num_threads=num_threads)
        inputs = self._session.get_inputs()
        self._names = [one.name for one in inputs]
        units, *dims = inputs[0].shape
        # A graph in int8 says how many units it takes, one, and scales what it computes for that
        # one alone; in others the dimension has a name, and the cache decides.
        self._units_in_graph = units if isinstance(units, int) else None
        self._unit_bytes = 0 if self._units_in_graph else _unit_bytes(self._session, path)
        # Frames as decoded, of no fixed size.
        self._resizes = not all(isinstance(dim, int) for dim in dims)

    def encode(self, *inputs: Array) -> NDArray[np.float32]:
        """Implement `VisionEncoder.encode`."""
        arrays = [to_host(array) for array in repeat_plan_inputs(inputs)]
        features: list[NDArray[np.float32]] = []
        at_once = self._units_in_graph or self._units_at_once(arrays[0][0])
        for start in range(0, len(arrays[0]), at_once):
            units = slice(start, start + at_once)
            feeds = {name: one[units] for name, one in zip(self._names, arrays, strict=True)}
            features += run_session(self._session.run, ["FEATURES"], feeds)
        return np.concatenate(features)

    def _units_at_once(self, unit: NDArray[np.uint8]) -> int:
        unit_bytes = self._unit_bytes
        if self._resizes:
            # The graph makes floats of them first, which the exporter could not count.
            unit_bytes = max(unit_bytes, unit.size * np.dtype(np.float32).itemsize)
        return max(1, _BATCH_BYTES // unit_bytes)


def _unit_bytes(session: onnxruntime.InferenceSession, path: Path) -> int:
    """Return what the exporter wrote into the graph."""
    noted = session.get_modelmeta().custom_metadata_map.get(ROW_BYTES_KEY, "")
    # Of a build between two versions, whose manifest says the same version.
    if not noted.isdecimal() or int(noted) == 0:
        raise EngineMismatchError(
            f"{path.name} must say in {ROW_BYTES_KEY} how many bytes a unit takes, got {noted!r}; "
            "rebuild the engine directory"
        )
    return int(noted)
