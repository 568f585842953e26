"""The select stage: logits of all questions -> scores and selected frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.options import ScoreOptions
from groundserve.runtime.deadline import Deadline
from groundserve.selection import select_frames, sigmoid


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Scores and choices, one row a question."""

    frame_scores: NDArray[np.float32]
    """float32 (Q, T) in [0, 1]."""
    selected_frames: NDArray[np.int64]
    """int64 (Q, K'), K' = min(K, T), source ordinals, increasing."""


def select_for_questions(
    frame_logits: NDArray[np.float32],
    frame_indices: NDArray[np.int64],
    options: ScoreOptions,
    *,
    deadline: Deadline,
) -> Selection:
    """Select frames for every question of float32 (Q, T) logits."""
    if len(frame_logits) == 0:
        raise InvalidRequestError("frame_logits must have a row for at least one question, got 0")
    selected = []
    for row in frame_logits:
        deadline.check()
        selected.append(
            select_frames(row, frame_indices, num_selected=options.top_k, selector=options.selector)
        )
    # Each row has min(K, T) entries, so they stack to (Q, K').
    return Selection(frame_scores=sigmoid(frame_logits), selected_frames=np.stack(selected))
