"""The reference implementation's recorded cases; see tests/fixtures/*/README.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundserve.options import Sampling, ScoreOptions

REPOSITORY = Path(__file__).parents[2]
SET_1 = Path(__file__).parents[1] / "fixtures" / "videoitg_ref"
SET_2 = Path(__file__).parents[1] / "fixtures" / "videoitg_ref2"


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceCase:
    """One scored question, as the reference printed it."""

    checkpoint: Path
    video: str
    sampling: Sampling
    sample_fps: float
    num_frames: int
    num_source_frames: int
    fps: float
    query: str
    frame_indices: list[int]
    input_ids: list[int]
    logits: NDArray[np.float64]
    """Recorded with 6 decimals."""
    grid: int | None
    kept_ids: list[int] | None
    """input_ids without padding ids; set 2 only."""
    frames_sha256: str | None
    resized_sha256: str | None

    @property
    def options(self) -> ScoreOptions:
        return ScoreOptions(
            num_frames=self.num_frames, sample_fps=self.sample_fps, sampling=self.sampling
        )

    @property
    def label(self) -> str:
        return f"{self.checkpoint.name}-{self.video}-{self.sampling}-T{len(self.frame_indices)}"


def load_cases(folder: Path) -> list[ReferenceCase]:
    """Read a set; set 1 calls the question `prompt` and has one checkpoint."""
    cases = json.loads((folder / "cases.json").read_text("utf-8"))
    return [
        ReferenceCase(
            checkpoint=folder / f"videoitg-{case.get('model', 'tiny')}",
            video=case["video"],
            sampling=case["rule"],
            sample_fps=case["target_fps"],
            num_frames=case["num_frames"],
            num_source_frames=case["total_frames"],
            fps=case["fps"],
            query=case["query"] if "query" in case else case["prompt"],
            frame_indices=case["frame_indices"],
            input_ids=case["input_ids"],
            logits=np.array(case["logits"]),
            grid=case.get("grid"),
            kept_ids=case.get("kept_ids"),
            frames_sha256=case.get("frames_sha256"),
            resized_sha256=case.get("resized_sha256"),
        )
        for case in cases
    ]


SET_1_CASES = load_cases(SET_1)
SET_2_CASES = load_cases(SET_2)
ALL_CASES = SET_1_CASES + SET_2_CASES
CHECKPOINTS = sorted({case.checkpoint for case in ALL_CASES})


def _longest_and_shortest() -> list[ReferenceCase]:
    found = []
    for checkpoint in CHECKPOINTS:
        cases = [case for case in ALL_CASES if case.checkpoint == checkpoint]
        cases.sort(key=lambda case: len(case.frame_indices))
        found += [cases[0], cases[-1]]
    return found


LONGEST_AND_SHORTEST = _longest_and_shortest()
"""Of each checkpoint, by frames."""

VTIMELLM = Path(__file__).parents[1] / "fixtures" / "vtimellm"
"""Of the first family that answers in text."""
VICUNA = VTIMELLM / "checkpoints" / "vicuna-tiny"

VTGLLM = Path(__file__).parents[1] / "fixtures" / "vtgllm"
VTGLLM_LLAMA = VTGLLM / "model" / "Video-LLaMA-2-7B-Finetuned" / "llama-2-7b-chat-hf"
