"""The model `frame_selector`: logits -> scores and selected frames."""

from __future__ import annotations

from typing import Any

from groundserve.deadline import Deadline
from groundserve.heartbeat import start_heartbeat
from groundserve.limits import Limits
from groundserve.options import parse_options
from python_backend.select import select_for_questions
from python_backend.stopwatch import Stopwatch
from python_backend.triton._answer import Answer
from python_backend.triton._asked import read_options_text
from python_backend.triton._checks import check_selection
from python_backend.triton._context import ModelContext
from python_backend.triton._io import answer_each
from python_backend.triton._metrics import Metrics
from python_backend.triton._report import observe_log, observe_metrics
from python_backend.triton._stage_info import StageInfo
from python_backend.triton._tensors import Tensors


class TritonPythonModel:
    """Selects frames for every question."""

    def initialize(self, args: dict[str, str]) -> None:
        """Check that this server may run the engine directory; no engine is opened."""
        ModelContext.load(args)
        self._limits = Limits.from_environment()
        self._observers = [observe_metrics(Metrics()), observe_log("frame_selector")]
        start_heartbeat()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with a selection or an error."""
        return answer_each(requests, self._select, limits=self._limits, observers=self._observers)

    def _select(self, tensors: Tensors, deadline: Deadline) -> Answer:
        info = StageInfo.read(tensors, "STAGE_INFO_2", deadline)
        # Before OPTIONS are read again: each step checks first whether anybody still waits.
        info.deadline.check()
        options = parse_options(read_options_text(tensors, self._limits), limits=self._limits)
        # The ensemble's own tensors always pass; this model can be called directly as well.
        check_selection(tensors, limits=self._limits)
        watch = Stopwatch()
        with watch.measure("select"):
            selection = select_for_questions(
                tensors["FRAME_LOGITS"],
                tensors["FRAME_INDICES"],
                options,
                deadline=info.deadline,
            )
        info = info.with_timing(watch.timing_ms)
        outputs: Tensors = {
            "FRAME_SCORES": selection.frame_scores,
            "SELECTED_FRAMES": selection.selected_frames,
            "INFO": info.to_info(),
        }
        return Answer(outputs=outputs, timing_ms=watch.timing_ms, report=info.facts)
