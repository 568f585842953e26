"""How well the best-scored span of a question matches the windows that answer it.

Logits are float32 (T,) before the sigmoid, labels bool (T,), and `pts_seconds` float64 (T,), when
each frame is shown, increasing; arrays that differ in shape raise InvalidRequestError.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundserve.selection import sigmoid
from groundserve.spans import Span, find_spans

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


def relevant_windows(
    labels: NDArray[np.bool_], pts_seconds: NDArray[np.float64], *, duration_seconds: float
) -> list[Window]:
    """Return the runs of relevant frames as time, by the rule that makes spans of scores."""
    # True is a score of 1 and False of 0, on either side of the default threshold. One rule for
    # truth and prediction: an IoU of 1 is within reach however sparsely the video is sampled.
    runs = find_spans(labels.astype(np.float32), pts_seconds, duration_seconds=duration_seconds)
    return [(run.start_seconds, run.end_seconds) for run in runs]


def top_span(
    frame_logits: NDArray[np.float32],
    pts_seconds: NDArray[np.float64],
    *,
    duration_seconds: float,
) -> Span | None:
    """Return the span with the highest score, at the default threshold and gap.

    Returns:
        Of equal scores the earliest; None where no frame reaches the threshold.
    """
    spans = find_spans(sigmoid(frame_logits), pts_seconds, duration_seconds=duration_seconds)
    # Spans come in order of time and max keeps the first of equals.
    return max(spans, key=lambda span: span.score, default=None)


def top_span_iou(
    frame_logits: NDArray[np.float32],
    labels: NDArray[np.bool_],
    pts_seconds: NDArray[np.float64],
    *,
    duration_seconds: float,
) -> float:
    """Return the top span's IoU with its best window; 0 where no span is predicted."""
    span = top_span(frame_logits, pts_seconds, duration_seconds=duration_seconds)
    if span is None:
        return 0.0
    windows = relevant_windows(labels, pts_seconds, duration_seconds=duration_seconds)
    return best_iou((span.start_seconds, span.end_seconds), windows)
