"""Which frames each arm shows, as int64 (n,) ordinals; all arms show the same number of them.

Shape letters: N frames of the file, n shown, 1 <= n <= N.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from groundserve.evaluation.qa.question import Question, Seconds

Arm = Literal["uniform", "selected", "oracle", "none"]


def arms_of(question: Question, arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms that a question is for: oracle frames need labelled spans."""
    return [arm for arm in arms if arm != "oracle" or question.spans]


def uniform_frames(num_source_frames: int, num_frames: int) -> NDArray[np.int64]:
    """Return ordinals of evenly spaced frames, the first and the last among them.

    Source: NVlabs/VideoITG fab8b54, `lmms_eval/models/eagle2_5.py`: what its wrappers show without
    a selection.
    """
    return np.linspace(0, num_source_frames - 1, num_frames, dtype=np.int64)


def oracle_frames(
    pts_seconds: NDArray[np.float64], spans: Sequence[Seconds], num_frames: int
) -> NDArray[np.int64]:
    """Return ordinals of evenly spaced frames among those shown inside labelled spans.

    Where the spans hold fewer than n frames, the frames nearest to them (the earlier of two as
    near) are added: as many are shown as in the other arms.
    """
    starts = np.array([start for start, _ in spans])
    ends = np.array([end for _, end in spans])
    # (N, spans): seconds to each span, 0 inside it
    away = np.maximum(starts - pts_seconds[:, None], pts_seconds[:, None] - ends).clip(min=0)
    distance = away.min(axis=1)
    inside = np.flatnonzero(distance == 0)
    if len(inside) >= num_frames:
        return inside[uniform_frames(len(inside), num_frames)]
    nearest = np.argsort(distance, kind="stable")[:num_frames]
    return np.sort(nearest)
