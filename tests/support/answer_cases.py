"""What the reference of the first family that answers in text computed, as one request can ask it.

See tests/fixtures/vtimellm/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from groundserve.options import AnswerOptions

FOLDER = Path(__file__).parents[1] / "fixtures" / "vtimellm"
CHECKPOINTS = FOLDER / "checkpoints"
_MAX_NEW_TOKENS = 32
_PLACEHOLDER = "<video>\n"


@dataclass(frozen=True, kw_only=True)
class AnswerCase:
    """One question with one turn, on one video."""

    name: str
    model: str
    """Key of `MODELS`."""
    video: str
    clip_seconds: tuple[float, float] | None
    query: str
    """All that stands behind the placeholder and its newline."""
    frame_indices: list[int]
    input_ids: list[int]
    token_ids: list[int]
    """Of the run `fp32`: greedy, each step's two best at least 0.009 apart."""
    text: str
    stopped_by_eos: bool

    @property
    def options(self) -> AnswerOptions:
        return AnswerOptions(
            task="chat",
            raw=True,
            clip_seconds=self.clip_seconds,
            max_new_tokens=_MAX_NEW_TOKENS,
        )

    def path(self, clips: Mapping[str, Path]) -> Path:
        """Of the video; one lies beside the cases."""
        return clips.get(self.video, FOLDER / "videos" / f"{self.video}.mp4")


def _load() -> tuple[list[AnswerCase], dict[str, dict[str, list[Path]]]]:
    recorded = json.loads((FOLDER / "cases.json").read_text("utf-8"))
    cases = [
        AnswerCase(
            name=case["name"],
            model=case["model"],
            video=case["video"],
            clip_seconds=case["split_seconds"] and tuple(case["split_seconds"]),
            query=case["turns"][0]["user"].removeprefix(_PLACEHOLDER),
            frame_indices=case["frame_indices"],
            input_ids=case["input_ids"],
            token_ids=case["runs"]["fp32"]["greedy_token_ids"],
            text=case["runs"]["fp32"]["greedy_text"],
            stopped_by_eos=case["runs"]["fp32"]["stopped_by_eos"],
        )
        for case in recorded["cases"]
        if len(case["turns"]) == len(case["features"]) == 1
    ]
    parts = {
        model: {"adapter": [CHECKPOINTS / f"vtimellm-vicuna-tiny-{stage}" for stage in stages]}
        for model, stages in recorded["about"]["models"].items()
    }
    return cases, parts


CASES, MODELS = _load()
"""The cases that one request can carry, and of each model the parts that are not to be looked for
in the folder of checkpoints."""
