"""An answer whose ranking is known, as a scorer gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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
