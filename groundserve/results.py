"""What a scoring request answers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.spans import Span, find_spans


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryResult:
    """One question's answer. T sampled frames, K' = min(K, T) selected ones."""

    query: str
    """The question as asked, without the prompt around it."""
    frame_logits: NDArray[np.float32]
    """float32 (T,), relevance before the sigmoid."""
    frame_scores: NDArray[np.float32]
    """float32 (T,) in [0, 1], after the sigmoid."""
    selected_frames: NDArray[np.int64]
    """int64 (K',), source ordinals, increasing."""
    selected_seconds: NDArray[np.float64]
    """float64 (K',), when each selected frame is shown."""
    spans: list[Span]
    """Stretches of frames with high scores, in time order."""

    def __repr__(self) -> str:
        return _shapes_shown(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "query": self.query,
            "frame_logits": self.frame_logits.tolist(),
            "frame_scores": self.frame_scores.tolist(),
            "selected_frames": self.selected_frames.tolist(),
            "selected_seconds": self.selected_seconds.tolist(),
            "spans": [list(span) for span in self.spans],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreResult:
    """One video's answer to one or more questions."""

    video: str
    """The video's name as the caller gave it."""
    num_source_frames: int
    """Frames in the file, counted by demuxing."""
    fps: float
    """Average frame rate announced by the container."""
    duration_seconds: float
    """Presentation time from the first frame to the end of the last."""
    frame_indices: NDArray[np.int64]
    """int64 (T,), 0-based source ordinals of the sampled frames, increasing."""
    pts_seconds: NDArray[np.float64]
    """float64 (T,), when each is shown, in seconds from the start of the stream."""
    num_frames: int
    """Ceiling on T that held: the one asked for, else the default for this checkpoint."""
    grid: int
    """Side g of the token grid: each frame became g*g tokens."""
    queries: list[QueryResult]
    """One entry a question, in the order asked."""
    timing_ms: dict[str, float]
    """Wall milliseconds of each stage."""
    engine: dict[str, Any]
    """Identity of the engine directory or checkpoint that scored."""
    request_id: str | None = None
    """Under which the server's log knows the request; None where no server was asked."""

    def __repr__(self) -> str:
        return _shapes_shown(self)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON answer of `groundserve score --json`."""
        return {
            "video": self.video,
            "num_source_frames": self.num_source_frames,
            "fps": self.fps,
            "duration_seconds": self.duration_seconds,
            "frame_indices": self.frame_indices.tolist(),
            "pts_seconds": self.pts_seconds.tolist(),
            "num_frames": self.num_frames,
            "grid": self.grid,
            "queries": [query.to_json() for query in self.queries],
            "timing_ms": self.timing_ms,
            "engine": self.engine,
            "request_id": self.request_id,
        }


def build_query_results(
    queries: list[str],
    *,
    frame_logits: NDArray[np.float32],
    frame_scores: NDArray[np.float32],
    selected_frames: NDArray[np.int64],
    frame_indices: NDArray[np.int64],
    pts_seconds: NDArray[np.float64],
    duration_seconds: float,
    span_threshold: float,
    span_gap_seconds: float,
) -> list[QueryResult]:
    """Join the arrays of one answer into one result a question; spans are found here.

    Args:
        queries: Q questions.
        frame_logits: float32 (Q, T).
        frame_scores: float32 (Q, T).
        selected_frames: int64 (Q, K'), source ordinals out of `frame_indices`.
        frame_indices: int64 (T,).
        pts_seconds: float64 (T,).
        duration_seconds: End of the video.
        span_threshold: See `groundserve.spans.find_spans`.
        span_gap_seconds: See `groundserve.spans.find_spans`.
    """
    return [
        QueryResult(
            query=query,
            frame_logits=logits,
            frame_scores=scores,
            selected_frames=selected,
            # Selected ordinals are part of `frame_indices`, which increases, so the search finds
            # each exactly.
            selected_seconds=pts_seconds[np.searchsorted(frame_indices, selected)],
            spans=find_spans(
                scores,
                pts_seconds,
                duration_seconds=duration_seconds,
                span_threshold=span_threshold,
                span_gap_seconds=span_gap_seconds,
            ),
        )
        for query, logits, scores, selected in zip(
            queries, frame_logits, frame_scores, selected_frames, strict=True
        )
    ]


def _shapes_shown(result: QueryResult | ScoreResult) -> str:
    """Return a dataclass's `repr` with dtype and shape in place of each array's numbers.

    An answer to 32 questions about 512 frames holds 33 thousand scores and logits, which would bury
    all else in a notebook or a log.
    """
    shown = []
    for field in fields(result):
        value = getattr(result, field.name)
        text = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
        shown.append(f"{field.name}={text}")
    return f"{type(result).__name__}({', '.join(shown)})"
