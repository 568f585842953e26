"""One scored question as every export takes it, wherever it was read.

Shape letters: T sampled frames, K frames asked for, K' = min(K, T) frames kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.options import Selector
from groundserve.records.record import DocId
from groundserve.selection import best_first, select_frames
from groundserve.spans import Span


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredFrames:
    """What an answer says of a question's frames beyond their order."""

    num_source_frames: int
    fps: float
    """Average frame rate announced by the container."""
    duration_seconds: float
    """Presentation time from the first frame to the end of the last."""
    frame_indices: NDArray[np.int64]
    """int64 (T,), 0-based ordinals in the file, increasing."""
    pts_seconds: NDArray[np.float64]
    """float64 (T,), when each is shown."""
    frame_logits: NDArray[np.float32]
    """float32 (T,), before the sigmoid."""
    frame_scores: NDArray[np.float64]
    """float64 (T,), after it, as the file has them."""
    selected_frames: NDArray[np.int64]
    """int64 (K',), the ordinals selected when the question was scored, increasing."""
    spans: list[Span]
    """In time order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportRow:
    """One question and its frames."""

    place: str
    """Where it stands, as errors name it."""
    id: DocId | None
    """As readers take it: text of a whole number is that number. None: the source has no ids."""
    video: str
    """As the source names it."""
    query: str
    ranking: NDArray[np.int64]
    """int64 (T,), all sampled ordinals, best first; T >= 1."""
    scored: ScoredFrames | None
    """None where the source holds the ranking alone, as the reference's records do."""


@dataclass(frozen=True, kw_only=True)
class FailedRow:
    """A question without an answer."""

    kind: str
    """Of the error, as the source calls it."""


_MAX_SECONDS = 1e7
"""Of a video, some 100 days: a hand-over has a number for each two seconds."""


def scored_row(
    scored: ScoredFrames, *, place: str, id: DocId | None, video: str, query: str
) -> ExportRow:
    """Rank the frames of a row that holds scores; of equal logits the earlier frame is better.

    Raises:
        InvalidRequestError: The row has no frames, its arrays do not belong together, or numbers
            are none that a video or a score can have.
    """
    num_frames = len(scored.frame_indices)
    arrays = (scored.pts_seconds, scored.frame_logits, scored.frame_scores)
    if not num_frames or any(array.shape != (num_frames,) for array in arrays):
        raise InvalidRequestError(
            f"{place}: frame_indices, pts_seconds, frame_logits and frame_scores must be of one "
            f"length >= 1, got {num_frames}, {', '.join(str(len(array)) for array in arrays)}"
        )
    if (np.diff(scored.frame_indices) <= 0).any() or not np.isfinite(scored.frame_logits).all():
        raise InvalidRequestError(f"{place}: frames must increase, and their logits be finite")
    if scored.frame_indices[0] < 0 or scored.frame_indices[-1] >= scored.num_source_frames:
        raise InvalidRequestError(
            f"{place}: frame_indices must be 0 to {scored.num_source_frames - 1}, the frames of "
            f"the file, got {scored.frame_indices[0]} to {scored.frame_indices[-1]}"
        )
    times = (*scored.pts_seconds.tolist(), scored.duration_seconds)
    if not all(-_MAX_SECONDS <= time <= _MAX_SECONDS for time in times):
        raise InvalidRequestError(
            f"{place}: pts_seconds and duration_seconds must be finite, at most {_MAX_SECONDS:g}"
        )
    if (np.diff(scored.pts_seconds) < 0).any() or not np.isfinite(scored.frame_scores).all():
        raise InvalidRequestError(
            f"{place}: pts_seconds must not decrease, and frame_scores be finite"
        )
    if any(not np.isfinite(span).all() or span[0] > span[1] for span in scored.spans):
        raise InvalidRequestError(
            f"{place}: spans must be finite numbers, their start not after their end"
        )
    selected = scored.selected_frames
    if not len(selected) or (np.diff(selected) <= 0).any():
        raise InvalidRequestError(f"{place}: selected_frames must be at least one, and increase")
    if not np.isin(selected, scored.frame_indices).all():
        raise InvalidRequestError(f"{place}: selected_frames must be frames that were scored")
    return ExportRow(
        place=place,
        id=id,
        video=video,
        query=query,
        ranking=scored.frame_indices[best_first(scored.frame_logits)],
        scored=scored,
    )


def choose_frames(
    row: ExportRow, *, top_k: int | None, selector: Selector | None
) -> NDArray[np.int64]:
    """Return the frames of a row that a Video-LLM is to see.

    Args:
        row: One question.
        top_k: K >= 1, to select anew from the scores; None: those that were selected. Of a row that
            holds a ranking alone the first K are taken.
        selector: How to select anew, "topk" where None. Goes with `top_k`, and with scores.

    Returns:
        int64 (K',), ordinals in the file, increasing.

    Raises:
        InvalidRequestError: See `select_frames`.
    """
    if row.scored is None:
        assert top_k is not None, "a ranking selects none"
        assert selector in (None, "topk"), "a ranking has no scores"
        return np.sort(row.ranking[:top_k])
    if top_k is None:
        return row.scored.selected_frames
    return select_frames(
        row.scored.frame_logits,
        row.scored.frame_indices,
        num_selected=top_k,
        selector=selector or "topk",
    )


def seconds_of(scored: ScoredFrames, frames: NDArray[np.int64]) -> list[float]:
    """Return when each of some sampled frames is shown."""
    # `frame_indices` increases and holds them all, so the search finds each exactly.
    seconds: list[float] = scored.pts_seconds[
        np.searchsorted(scored.frame_indices, frames)
    ].tolist()
    return seconds
