"""One scored question as every export takes it, wherever it was read.

Shape letters: T sampled frames, K frames asked for, K' = min(K, T) frames kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.options import Selector
from groundserve.records.record import DocId
from groundserve.selection import best_first, select_frames
from groundserve.spans import Span

_MAX_SECONDS = 1e7
"""Longest video, some 100 days: a hand-over has a number for each two seconds."""


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


def scored_row(values: Mapping[str, Any], *, place: str, id: DocId | None) -> ExportRow:
    """Check what a source holds of a question, and rank its frames; of equal logits the earlier.

    `values` are the fields of `ScoredFrames` as lists or arrays, a span's by name or in order,
    and `video` and `query`.
    """
    try:
        scored = ScoredFrames(
            num_source_frames=_numbers([values["num_source_frames"]], np.int64).item(),
            fps=_numbers([values["fps"]], np.float64).item(),
            duration_seconds=_numbers([values["duration_seconds"]], np.float64).item(),
            frame_indices=_numbers(values["frame_indices"], np.int64),
            pts_seconds=_numbers(values["pts_seconds"], np.float64),
            frame_logits=_numbers(values["frame_logits"], np.float32),
            frame_scores=_numbers(values["frame_scores"], np.float64),
            selected_frames=_numbers(values["selected_frames"], np.int64),
            spans=[_span(span) for span in values["spans"]],
        )
        if not isinstance(values["video"], str) or not isinstance(values["query"], str):
            raise TypeError("video and query must be text")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidRequestError(
            f"{place}: not a question as groundserve scores it: {error!r}"
        ) from error
    if problem := _problem(scored):
        raise InvalidRequestError(f"{place}: {problem}")
    return ExportRow(
        place=place,
        id=id,
        video=values["video"],
        query=values["query"],
        ranking=scored.frame_indices[best_first(scored.frame_logits)],
        scored=scored,
    )


def choose_frames(
    row: ExportRow, *, top_k: int | None, selector: Selector | None
) -> NDArray[np.int64]:
    """Return the frames of a row that a Video-LLM is to see: int64 (K',) ordinals, increasing.

    They are selected anew from the scores where `top_k` is given; a ranking alone has its first K.
    """
    if row.scored is None:
        assert top_k is not None, "a ranking selects none"
        return np.sort(row.ranking[:top_k])
    if top_k is None:
        return row.scored.selected_frames
    return select_frames(
        row.scored.frame_logits,
        row.scored.frame_indices,
        num_selected=top_k,
        selector=selector or "topk",
    )


def _numbers(values: Any, dtype: type[np.generic]) -> NDArray[Any]:
    """Return a list of numbers; NumPy alone would cut 1.5 to 1, and read text and true."""
    array = np.asarray(values)
    kinds = "iu" if issubclass(dtype, np.integer) else "iuf"
    if array.ndim != 1 or (array.size and array.dtype.kind not in kinds):
        raise TypeError("a list of numbers has something else")
    return array.astype(dtype)


def _span(values: Any) -> Span:
    bounds = [values[name] for name in Span._fields] if isinstance(values, dict) else values
    return Span(*_numbers(bounds, np.float64).tolist())


def _problem(scored: ScoredFrames) -> str | None:
    ordinals, pts, selected = scored.frame_indices, scored.pts_seconds, scored.selected_frames
    lengths = [len(ordinals), len(pts), len(scored.frame_logits), len(scored.frame_scores)]
    if not lengths[0] or len(set(lengths)) > 1:
        return (
            "frame_indices, pts_seconds, frame_logits and frame_scores must be of one length >= 1, "
            f"got {', '.join(map(str, lengths))}"
        )
    spans = np.array(scored.spans).reshape(-1, len(Span._fields))
    if not all(np.isfinite(it).all() for it in (scored.frame_logits, scored.frame_scores, spans)):
        return "frame_logits, frame_scores and spans must be finite"
    last = scored.num_source_frames - 1
    if (np.diff(ordinals) <= 0).any() or ordinals[0] < 0 or ordinals[-1] > last:
        return f"frame_indices must increase, and be 0 to {last}, the frames of the file"
    if not (np.abs(np.append(pts, scored.duration_seconds)) <= _MAX_SECONDS).all():
        return f"pts_seconds and duration_seconds must be finite, at most {_MAX_SECONDS:g}"
    if (np.diff(pts) < 0).any() or (spans[:, 0] > spans[:, 1]).any():
        return "pts_seconds must not decrease, and no span start after its end"
    if not len(selected) or (np.diff(selected) <= 0).any() or not np.isin(selected, ordinals).all():
        return "selected_frames must be frames that were scored, at least one, and increase"
    return None
