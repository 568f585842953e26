"""The model `grounding`: pooled features and questions -> one logit a frame and question."""

from __future__ import annotations

from typing import Any

from groundserve.deadline import Deadline
from groundserve.limits import Limits
from python_backend.ground import ground_queries
from python_backend.stopwatch import Stopwatch
from python_backend.triton._context import ModelContext
from python_backend.triton._io import answer_each
from python_backend.triton._tensors import Tensors, add_timing, read_texts


class TritonPythonModel:
    """Scores the questions of one request one after another."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the profile's grounder and the checkpoint's tokenizer."""
        context = ModelContext.load(args)
        self._limits = Limits()
        self._model = context.engine.manifest.model
        self._tokenizer = context.engine.open_tokenizer()
        self._grounder = context.engine.open_grounder(num_threads=context.num_threads)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with logits or an error."""
        return answer_each(requests, self._ground, limits=self._limits)

    def _ground(self, tensors: Tensors, deadline: Deadline) -> Tensors:
        watch = Stopwatch()
        with watch.measure("ground"):
            frame_logits = ground_queries(
                tensors["FEATURES"],
                read_texts(tensors, "QUERY"),
                tokenizer=self._tokenizer,
                grounder=self._grounder,
                model=self._model,
                limits=self._limits,
                deadline=deadline,
            )
        stage_info = add_timing(tensors, "STAGE_INFO", watch.timing_ms)
        return {"FRAME_LOGITS": frame_logits, "STAGE_INFO_2": stage_info}
