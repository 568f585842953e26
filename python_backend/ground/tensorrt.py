"""The decoder of the grounding stage as a TensorRT plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from python_backend.tensorrt_runtime import PlanRunner


class TensorRTTokenScorer:
    """Runs `grounding.plan`."""

    def __init__(self, runner: PlanRunner) -> None:
        self._runner = runner

    def score(self, inputs_embeds: Tensor) -> Tensor:
        """Implement `TokenScorer.score`."""
        return self._runner.run({"INPUTS_EMBEDS": inputs_embeds})["TOKEN_SCORES"]
