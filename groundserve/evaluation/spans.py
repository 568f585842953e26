"""How well the best-scored span of a question matches the windows that answer it.

Logits are float32 (T,) before the sigmoid, labels bool (T,), and `pts_seconds` float64 (T,), when
each frame is shown, increasing; arrays that differ in shape raise InvalidRequestError.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundserve.selection import sigmoid
from groundserve.spans import find_spans

Window = tuple[float, float]
"""(start_seconds, end_seconds)."""


def span_iou(first: Window, second: Window) -> float:
    """Return shared time over covered time, in [0, 1]; 0 where both are empty."""
    shared = max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
    covered = (first[1] - first[0]) + (second[1] - second[0]) - shared
    # The span of a last frame has no length where the video ends with that frame.
    return shared / covered if covered > 0 else 0.0


def best_iou(span: Window, windows: Sequence[Window]) -> float:
    """Return the IoU with the window that matches best; 0 where there is none."""
    return max((span_iou(span, window) for window in windows), default=0.0)


def top_span_iou(
    frame_logits: NDArray[np.float32],
    labels: NDArray[np.bool_],
    pts_seconds: NDArray[np.float64],
    *,
    duration_seconds: float,
) -> float:
    """Return the IoU of the best-scored span with its best window; 0 where no span is predicted.

    Windows are the runs of relevant frames, by the rule that makes spans of scores: an IoU of 1 is
    within reach however sparsely the video is sampled.
    """
    # True is a score of 1 and False of 0, on either side of the default threshold.
    told, true = (
        find_spans(scores, pts_seconds, duration_seconds=duration_seconds)
        for scores in (sigmoid(frame_logits), labels.astype(np.float32))
    )
    if not told:
        return 0.0
    best = max(told, key=lambda span: span.score)  # of equal scores the earliest
    windows = [(run.start_seconds, run.end_seconds) for run in true]
    return best_iou((best.start_seconds, best.end_seconds), windows)
