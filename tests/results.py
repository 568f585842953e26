"""An answer whose ranking is known, as a scorer gives it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from groundserve.results import ScoreResult, build_query_results
from groundserve.selection import select_frames, sigmoid

RANKING = [25, 50, 0, 75]
"""Best first; of the two best, which are equal, the earlier."""


def make_result(
    video: str = "bikes.mp4", queries: Sequence[str] = ("Où est le vélo ?",), *, top_k: int = 2
) -> ScoreResult:
    """Answer each question with the same four frames of a video of 100, at 25 a second."""
    indices = np.array([0, 25, 50, 75])
    logits = np.tile(np.array([0.5, 2.0, 2.0, -1.0], np.float32), (len(queries), 1))
    selected = [select_frames(row, indices, num_selected=top_k) for row in logits]
    return ScoreResult(
        video=video,
        num_source_frames=100,
        fps=25.0,
        duration_seconds=4.0,
        frame_indices=indices,
        pts_seconds=indices / 25,
        num_frames=512,
        grid=5,
        queries=build_query_results(
            list(queries),
            frame_logits=logits,
            frame_scores=sigmoid(logits),
            selected_frames=np.array(selected),
            frame_indices=indices,
            pts_seconds=indices / 25,
            duration_seconds=4.0,
            span_threshold=0.5,
            span_gap_seconds=0.0,
        ),
        timing_ms={},
        engine={},
    )
