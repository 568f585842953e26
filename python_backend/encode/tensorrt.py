"""The vision stage as a TensorRT plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from python_backend.arrays import Array, concatenate, to_torch
from python_backend.encode.base import split_inputs

if TYPE_CHECKING:
    from python_backend.tensorrt_runtime import PlanRunner


class TensorRTEncoder:
    """Runs `vision_encoder.plan`, as many units at a time as it takes."""

    def __init__(self, runner: PlanRunner, names: Sequence[str]) -> None:
        """Take an open plan.

        Args:
            runner: The plan.
            names: Its inputs in the family's order: `VisionInputs.names`.
        """
        self._runner = runner
        self._names = names
        self._max_units = runner.max_shape(names[0])[0]

    def encode(self, *inputs: Array) -> Array:
        """See `VisionEncoder.encode`; float16, on the GPU."""
        import torch

        streams, plan_inputs = (
            [to_torch(one, self._runner.device) for one in some] for some in split_inputs(inputs)
        )
        num_units = len(streams[0])
        # The same for every unit, and the plan reads them one after another.
        repeated = [one.expand(num_units, *one.shape).contiguous() for one in plan_inputs]
        features = []
        for pieces in zip(*(torch.split(one, self._max_units) for one in streams), strict=True):
            # Rows from the front will do for any piece.
            rows = [one[: len(pieces[0])] for one in repeated]
            arrays = [*(piece.contiguous() for piece in pieces), *rows]
            answer = self._runner.run(dict(zip(self._names, arrays, strict=True)))
            features.append(answer["FEATURES"])
        return concatenate(features)
