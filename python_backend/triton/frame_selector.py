"""The model `frame_selector`: logits -> scores and selected frames."""

from __future__ import annotations

from typing import Any

from groundserve.deadline import Deadline
from groundserve.limits import Limits
from groundserve.options import parse_options
from python_backend.select import select_frames
from python_backend.stopwatch import Stopwatch
from python_backend.triton._context import ModelContext
from python_backend.triton._io import answer_each
from python_backend.triton._tensors import Tensors, add_timing, read_optional_text


class TritonPythonModel:
    """Selects frames for every question."""

    def initialize(self, args: dict[str, str]) -> None:
        """Check that this server may run the engine directory; no engine is opened."""
        ModelContext.load(args)
        self._limits = Limits()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with a selection or an error."""
        return answer_each(requests, self._select, limits=self._limits)

    def _select(self, tensors: Tensors, deadline: Deadline) -> Tensors:
        deadline.check()
        options = parse_options(read_optional_text(tensors, "OPTIONS") or "", limits=self._limits)
        watch = Stopwatch()
        with watch.measure("select"):
            selection = select_frames(tensors["FRAME_LOGITS"], tensors["FRAME_INDICES"], options)
        return {
            "FRAME_SCORES": selection.frame_scores,
            "SELECTED_FRAMES": selection.selected_frames,
            "INFO": add_timing(tensors, "STAGE_INFO_2", watch.timing_ms),
        }
