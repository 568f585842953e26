"""The decoder of the grounding stage as a TensorRT plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from python_backend.tensorrt_runtime import PlanRunner


class TensorRTTokenScorer:
    """Runs `grounding.plan`, one sequence after another.

    Attention there knows no boundaries between sequences, and at these lengths one alone fills
    the GPU.
    """

    def __init__(self, runner: PlanRunner) -> None:
        self._runner = runner
        self._max_num_tokens = runner.max_shape("INPUTS_EMBEDS")[0]

    @property
    def max_num_tokens(self) -> int:
        """Implement `TokenScorer.max_num_tokens`."""
        return self._max_num_tokens

    def score(self, inputs_embeds: Sequence[Tensor]) -> list[Tensor]:
        """Implement `TokenScorer.score`."""
        return [self._runner.run({"INPUTS_EMBEDS": one})["TOKEN_SCORES"] for one in inputs_embeds]
