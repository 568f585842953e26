"""Turn frame scores into stretches of time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundserve.arguments import check_number
from groundserve.errors import InvalidRequestError

DEFAULT_SPAN_THRESHOLD = 0.5
DEFAULT_SPAN_GAP_SECONDS = 0.0


class Span(NamedTuple):
    """A stretch of time in which the frames' scores are high."""

    start_seconds: float
    """When its first frame is shown."""
    end_seconds: float
    """When its last frame gives way to the next sampled frame (or the video ends)."""
    score: float
    """Highest frame score inside."""


def check_span_options(span_threshold: object, span_gap_seconds: object) -> None:
    """Refuse what `find_spans` refuses, before there are scores.

    Raises:
        InvalidRequestError: One is out of its range, or not a number.
    """
    if not 0 <= check_number("span_threshold", span_threshold) <= 1:
        raise InvalidRequestError(f"span_threshold must be in [0, 1], got {span_threshold}")
    if not check_number("span_gap_seconds", span_gap_seconds) >= 0:
        raise InvalidRequestError(f"span_gap_seconds must be >= 0, got {span_gap_seconds}")


def find_spans(
    frame_scores: NDArray[np.float32],
    pts_seconds: NDArray[np.float64],
    *,
    duration_seconds: float,
    span_threshold: float = DEFAULT_SPAN_THRESHOLD,
    span_gap_seconds: float = DEFAULT_SPAN_GAP_SECONDS,
) -> list[Span]:
    """Join runs of frames that score at least the threshold.

    A sampled frame stands for the time until the next sampled frame, the last one for the time
    until the end of the video. Two runs become one span when the time between them is at most
    `span_gap_seconds`.

    Args:
        frame_scores: float32 (T,) in [0, 1].
        pts_seconds: float64 (T,), increasing.
        duration_seconds: End of the video; never before the last frame.
        span_threshold: Lowest score that belongs to a span, in [0, 1].
        span_gap_seconds: Longest gap that is bridged, >= 0.

    Raises:
        InvalidRequestError: Shapes differ, or a parameter is out of range.
    """
    if frame_scores.shape != pts_seconds.shape or frame_scores.ndim != 1:
        raise InvalidRequestError(
            "frame_scores and pts_seconds must have the same shape (T,), "
            f"got {frame_scores.shape} and {pts_seconds.shape}"
        )
    check_span_options(span_threshold, span_gap_seconds)
    if not len(pts_seconds):
        return []
    # (T,): when each frame gives way to the next.
    ends = np.append(pts_seconds[1:], max(duration_seconds, float(pts_seconds[-1])))
    spans: list[Span] = []
    for i in np.flatnonzero(frame_scores >= span_threshold):
        frame = Span(float(pts_seconds[i]), float(ends[i]), float(frame_scores[i]))
        if spans and frame.start_seconds - spans[-1].end_seconds <= span_gap_seconds:
            # Frames next to each other have no gap, so a run becomes one span by the same rule.
            last = spans.pop()
            frame = Span(last.start_seconds, frame.end_seconds, max(last.score, frame.score))
        spans.append(frame)
    return spans
