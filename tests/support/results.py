"""Answers that are known: a ranking as a scorer gives it, and texts as an answerer does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from groundserve.answers import Answer, AnswerResult, GenerationInfo, Moment
from groundserve.results import ScoreResult, VideoInfo, build_score_result
from groundserve.selection import select_frames, sigmoid

RANKING = [25, 50, 0, 75]
"""Best first; of the two best, which are equal, the earlier."""


def make_info(**facts: Any) -> VideoInfo:
    """Say of a video what is given, and something small of all else."""
    usual: dict[str, Any] = {
        "num_source_frames": 1,
        "fps": 1.0,
        "duration_seconds": 1.0,
        "num_frames": 512,
        "engine": {},
        "decoders": ["pyav"],
        "cache_hit": False,
        "keyframe_shift_seconds": 0.0,
        "video_bytes": 9,
        "timing_ms": {},
    }
    return VideoInfo(**usual | facts)


def make_result(
    video: str = "bikes.mp4", queries: Sequence[str] = ("Où est le vélo ?",), *, top_k: int = 2
) -> ScoreResult:
    """Answer each question with the same four frames of a video of 100, at 25 a second."""
    indices = np.array([0, 25, 50, 75])
    logits = np.tile(np.array([0.5, 2.0, 2.0, -1.0], np.float32), (len(queries), 1))
    selected = [select_frames(row, indices, num_selected=top_k) for row in logits]
    return build_score_result(
        queries,
        video=video,
        info=make_info(num_source_frames=100, fps=25.0, duration_seconds=4.0, facts={"grid": 5}),
        frame_indices=indices,
        pts_seconds=indices / 25,
        frame_logits=logits,
        frame_scores=sigmoid(logits),
        selected_frames=np.array(selected),
        span_threshold=0.5,
        span_gap_seconds=0.0,
    )


def make_answer(query: str = "a man", text: str = "From 20 to 50.", **fields: Any) -> Answer:
    """Answer in text what is given; without more, when in a video of 4 s something happens."""
    usual: dict[str, Any] = {
        "query": query,
        "task": "moment",
        "prompt_token_ids": np.array([1, -200, 7], np.int32),
        "token_ids": np.array([5, 2], np.int32),
        "text": text,
        "moments": (Moment(start_seconds=0.8, end_seconds=2.0),),
        "stop_reason": "eos",
    }
    return Answer(**usual | fields)


def make_answers(*answers: Answer, **generation: Any) -> AnswerResult:
    """Join answers about a video of 100 frames at 25 a second, of which four were seen."""
    usual: dict[str, Any] = {
        "prefix_tokens": 5,
        "prompt_tokens": len(answers),
        "generated_tokens": 2 * len(answers),
        "seed": None,
        "time_range_seconds": (0.0, 4.0),
        "stop_reasons": tuple(answer.stop_reason for answer in answers),
        "is_read": tuple(bool(answer.moments) for answer in answers),
    }
    indices = np.array([0, 25, 25, 75])
    return AnswerResult(
        video="bikes.mp4",
        info=make_info(
            num_source_frames=100,
            fps=25.0,
            duration_seconds=4.0,
            num_frames=4,
            engine={"family": "vtimellm"},
        ),
        frame_indices=indices,
        pts_seconds=indices / 25,
        answers=list(answers),
        generation=GenerationInfo(**usual | generation),
    )
