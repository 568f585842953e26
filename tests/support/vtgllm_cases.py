"""What VTG-LLM's reference computed, as one request can ask it; tests/fixtures/vtgllm/README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from groundserve.options import AnswerOptions, Task
from tests.support.reference import VTGLLM

MAX_NEW_TOKENS = 40
TASKS: dict[str, Task] = {
    "tvg": "moment",
    "dvc": "captions",
    "vhd": "highlights",
    "vs": "summary",
}
_NUM_FRAMES = 96


@dataclass(frozen=True, kw_only=True)
class VtgCase:
    """One question with one turn, on a video that is a file."""

    name: str
    config: str
    """File in `eval_configs`, without its ending."""
    video: str
    task: Task
    num_frames: int | None
    """None: all that the model takes."""
    query: str
    frame_indices: list[int]
    seconds: list[float]
    input_ids: list[int]
    token_ids: list[int]
    """Of the run `fp32`: greedy."""
    gaps: list[float]
    """Of each step, between the two best logits."""
    text: str
    moments: list[dict[str, Any]]
    """As the reference's parsers read the text."""
    stopped_by_eos: bool

    @property
    def options(self) -> AnswerOptions:
        return AnswerOptions(
            task=self.task, raw=True, num_frames=self.num_frames, max_new_tokens=MAX_NEW_TOKENS
        )

    @property
    def parts(self) -> dict[str, list[str]]:
        return parts_of(self.config)

    @property
    def first_logits(self) -> NDArray[np.float32]:
        """float32 (V,), of the run `fp32` behind the prompt."""
        return _STAGES[f"{self.name}.turn0.prefill_logits"].ravel()

    def path(self, clips: Mapping[str, Path]) -> Path:
        """Of the video; one lies beside the cases."""
        return clips.get(self.video, VTGLLM / "clips" / f"{self.video}.mp4")


def parts_of(config: str) -> dict[str, list[str]]:
    """Return the parts that are not to be looked for."""
    return {"config": [f"eval_configs/{config}.yaml"], "eva_heads": ["3"]}


def _moments(parsed: dict[str, Any]) -> list[dict[str, Any]]:
    if "events" in parsed:
        return [{"timestamp": one["timestamp"], "text": one["caption"]} for one in parsed["events"]]
    if "highlights" in parsed:
        return [
            {"timestamp": [one["timestamp"]] * 2, "score": one["saliency_score"]}
            for one in parsed["highlights"]
        ]
    return [{"timestamp": span} for span in parsed["timestamp"]]


def _load() -> list[VtgCase]:
    found = []
    for case in json.loads((VTGLLM / "cases.json").read_text("utf-8"))["cases"]:
        turn = case["turns"][0]
        formula = case["video"].startswith("formula")
        if formula or len(case["turns"]) > 1 or turn["leading_embeddings_dropped"]:
            continue
        decoded = turn["runs"]["fp32"]["decode"]
        found.append(
            VtgCase(
                name=case["name"],
                config=case["config"],
                video=case["video"],
                task=TASKS[case["task"]],
                num_frames=None if case["n_frms"] == _NUM_FRAMES else case["n_frms"],
                query=turn["question"],
                frame_indices=case["frame_indices"],
                seconds=[float(time) for time in case["timestamps"]],
                input_ids=turn["input_ids"],
                token_ids=decoded["token_ids"],
                gaps=decoded["top1_minus_top2"],
                text=decoded["text"],
                moments=_moments(turn["runs"]["fp32"]["parsed"]),
                stopped_by_eos=decoded["ended_by_eos"],
            )
        )
    return found


_STAGES = load_file(VTGLLM / "stages.safetensors")
CASES = _load()
"""The cases that one request can carry."""
CONFIGS = sorted({case.config for case in CASES})
RELEASED = "interpolation"
"""What the reference's scripts use."""
