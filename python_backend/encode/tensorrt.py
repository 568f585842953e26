"""The vision stage as a TensorRT plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from python_backend.arrays import Array, concatenate, to_torch

if TYPE_CHECKING:
    from python_backend.tensorrt_runtime import PlanRunner


class TensorRTEncoder:
    """Runs `vision_encoder.plan`, as many units at a time as it takes."""

    def __init__(self, runner: PlanRunner, names: Sequence[str]) -> None:
        """Take an open plan; `names` are its inputs in the family's order, `VisionInputs.names`."""
        self._runner = runner
        self._names = names
        self._max_units = runner.max_shape(names[0])[0]

    def encode(self, *inputs: Array) -> Array:
        """Implement `VisionEncoder.encode`; float16, on the GPU."""
        arrays = [to_torch(one, self._runner.device) for one in inputs]
        num_units = len(arrays[0])
        # What all units share, too, the plan reads one after another.
        batches = [one.expand(num_units, *one.shape[1:]) for one in arrays]
        features = []
        for pieces in zip(*(torch.split(one, self._max_units) for one in batches), strict=True):
            feeds = [piece.contiguous() for piece in pieces]
            answer = self._runner.run(dict(zip(self._names, feeds, strict=True)))
            features.append(answer["FEATURES"])
        return concatenate(features)
