"""The model `grounding`: features and questions -> one logit a frame and question."""

from __future__ import annotations

from typing import Any

from groundserve.limits import Limits
from groundserve.runtime.cpus import available_cpus
from groundserve.runtime.deadline import Deadline
from groundserve.runtime.parent_watch import end_with_parent
from python_backend.ground import Questions, ground_questions
from python_backend.triton._context import ModelContext
from python_backend.triton._heap import keep_heap
from python_backend.triton._io import answer_each
from python_backend.triton._tensors import Tensors, divided
from python_backend.warm_up import warm_up_grounder


class TritonPythonModel:
    """Scores the questions of one request one after another."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the profile's grounder."""
        context = ModelContext.load(args)
        self._limits = Limits.from_environment()
        self._manifest = context.engine.manifest
        if self._manifest.device == "cpu":
            keep_heap()
        # All cores for each instance: a question that is asked alone has them, and the threads of
        # one that waits sleep.
        self._grounder = context.engine.open_grounder(num_threads=available_cpus())
        # On a CPU the first pass takes no longer than the next: see `warm_up`.
        if self._manifest.device == "cuda":
            warm_up_grounder(self._grounder, self._manifest)
        end_with_parent()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each call with logits or an error."""
        return answer_each(requests, self._ground, limits=self._limits, stay_on_gpu=("FEATURES",))

    def _ground(self, tensors: Tensors, deadline: Deadline) -> Tensors:
        questions = Questions(
            text_ids=divided(tensors["TEXT_IDS"], tensors["TEXT_OFFSETS"]),
            max_tokens=self._manifest.model.max_tokens,
        )
        logits = ground_questions(tensors["FEATURES"], questions, self._grounder, deadline=deadline)
        return {"FRAME_LOGITS": logits}
