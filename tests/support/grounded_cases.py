"""What Grounded-VideoLLM's reference computed in float32, as one request can ask it.

See tests/fixtures/grounded_videollm/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.options import AnswerOptions, Task

FOLDER = Path(__file__).parents[1] / "fixtures" / "grounded_videollm"
WEIGHTS = FOLDER / "weight_path"
MAX_NEW_TOKENS = 32
PARTS = {
    "phi3.5": {"llm": ["phi3.5"], "clip_heads": ["4"], "internvideo_heads": ["4"]},
    # Its CLIP's are in the config beside the base.
    "llama3": {"llm": ["llama3"], "internvideo_heads": ["4"]},
}
"""Of each model what is not to be looked for in `WEIGHTS`."""

_TASKS: Mapping[str, Task] = {
    "grounding": "moment",
    "qa": "question",
    "referring": "referring",
}
_FORMULA = "formula"


@dataclass(frozen=True, kw_only=True)
class GroundedCase:
    """One question on one video; of a batch one row, which its padding does not change."""

    name: str
    model: str
    """Key of `PARTS`."""
    video: str
    task: Task
    query: str
    frame_indices: list[int]
    duration_seconds: float
    """Of which a time token is a fraction: frames by average rate."""
    input_ids: list[int]
    num_positions: int
    """Of the prompt, the video's block among them."""
    logits: Mapping[str, Any]
    """What is recorded of those behind the prompt."""
    token_ids: list[int]
    """Greedy."""
    gaps: list[float]
    """Between the two best logits of each step."""
    text: str
    stopped_by_eos: bool

    @property
    def options(self) -> AnswerOptions:
        return AnswerOptions(task=self.task, raw=True, max_new_tokens=MAX_NEW_TOKENS)

    def path(self, clips: Mapping[str, Path]) -> Path:
        """Of the video; one lies beside the cases."""
        return clips.get(self.video, FOLDER / "clips" / f"{self.video}.mp4")

    def num_sure(self, error: float) -> int:
        """How many tokens are binding where logits are off by so much: two may change places."""
        close = (step for step, gap in enumerate(self.gaps) if gap < 2 * error)
        return next(close, len(self.gaps))

    def logit_error(self, logits: NDArray[np.float32]) -> float:
        """Largest of the differences from the logits that are recorded one by one."""
        recorded = [*enumerate(self.logits["first8"]), *self.logits["top20"]]
        return max(abs(float(logits[place]) - value) for place, value in recorded)

    def check_logits(self, logits: NDArray[np.float32], bound: float) -> None:
        """Compare what is recorded of the logits, one by one and together."""
        assert self.logit_error(logits) <= bound
        exact = logits.astype(np.float64)
        # Each may be off by the bound, which a sum of n squares has the square root of n times.
        together = bound * np.sqrt(exact.size)
        assert abs(np.linalg.norm(exact) - self.logits["l2"]) <= together
        ordered = exact @ np.cos(0.37 * np.arange(exact.size)) / np.sqrt(exact.size)
        assert abs(ordered - self.logits["ordered"]) <= together


def _rows() -> list[GroundedCase]:
    recorded = json.loads((FOLDER / "cases.json").read_text("utf-8"))
    return [
        GroundedCase(
            name=case["name"] if case["batch"] == 1 else f"{case['name']}-{row}",
            model=case["llm"],
            video=item["video"],
            task=_TASKS[item["mode"]],
            query=item["query"],
            frame_indices=item["frame_indices"],
            duration_seconds=item["duration"],
            input_ids=item["input_ids"],
            num_positions=case["sequence_length"] - item["left_padding"],
            logits=case["prefill_logits"][row],
            token_ids=decoded["token_ids"],
            gaps=decoded["top1_minus_top2"],
            text=decoded["text"],
            stopped_by_eos=decoded["ended_by_eos"],
        )
        for case in recorded["cases"]
        if case["precision"] == "fp32"
        for row, (item, decoded) in enumerate(zip(case["items"], case["decode"], strict=True))
    ]


CASES = [case for case in _rows() if case.video != _FORMULA]
"""Of real clips."""
FORMULA_CASES = [case for case in _rows() if case.video == _FORMULA]
"""Of frames that are computed."""


def formula_frames() -> NDArray[np.uint8]:
    """Return uint8 (96, 144, 200, 3), the frames of the video that needs no decoder."""
    t, y, x = np.ogrid[:96, :144, :200]
    channels = [
        3 * t * (c + 1) + ((5 + 2 * c) * x) // 3 + ((7 - c) * y) // 4 + ((x * y) // 97) * (c + 1)
        for c in range(3)
    ]
    return (np.stack(channels, axis=-1) % 256).astype(np.uint8)
