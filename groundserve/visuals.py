"""Pictures of an answer: the selected frames, and the scores over time."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.results import QueryResult, ScoreResult

_COLUMNS = 4
_TILE_INCHES = 2.6


def format_seconds(seconds: float) -> str:
    """Return `h:mm:ss.s`, or `m:ss.s` below an hour."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{clock}:{rest // 10:02d}.{rest % 10}"


def save_contact_sheet(
    path: str | PathLike[str],
    result: ScoreResult,
    frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    frame_indices: NDArray[np.int64],
) -> None:
    """Draw the selected frames of every question with their times and scores.

    Args:
        path: PNG to write.
        result: The answer.
        frames: Pictures, uint8 (H, W, 3) each; they cover every selected frame.
        frame_indices: int64, the source ordinal of each picture.

    Raises:
        InvalidRequestError: The file cannot be written.
    """
    picture = dict(zip(frame_indices.tolist(), frames, strict=True))
    rows = [math.ceil(len(query.selected_frames) / _COLUMNS) for query in result.queries]
    height, width = np.asarray(frames[0]).shape[:2]
    tile_height = _TILE_INCHES * height / width + 0.35
    figure = _figure(_COLUMNS * _TILE_INCHES, sum(rows) * tile_height + 0.5 * len(rows))
    parts = np.atleast_1d(figure.subfigures(len(rows), 1, height_ratios=rows))
    for part, query, num_rows in zip(parts, result.queries, rows, strict=True):
        part.suptitle(_title(query), fontsize=11, x=0.02, ha="left", weight="bold")
        axes = np.ravel(part.subplots(num_rows, _COLUMNS, squeeze=False))
        for axis in axes:
            axis.set_axis_off()
        scores = query.frame_scores[np.searchsorted(result.frame_indices, query.selected_frames)]
        for axis, ordinal, seconds, score in zip(
            axes, query.selected_frames, query.selected_seconds, scores, strict=False
        ):
            axis.imshow(picture[int(ordinal)])
            axis.set_title(
                f"{format_seconds(seconds)}  score {score:.2f}  frame {ordinal}", fontsize=8
            )
    _save(figure, path)


def save_score_plot(path: str | PathLike[str], result: ScoreResult) -> None:
    """Draw each question's score over time, with selected frames and spans marked.

    Raises:
        InvalidRequestError: The file cannot be written.
    """
    figure = _figure(9, 2.3 * len(result.queries) + 0.4)
    axes = np.ravel(figure.subplots(len(result.queries), 1, sharex=True, squeeze=False))
    for axis, query in zip(axes, result.queries, strict=True):
        chosen = np.isin(result.frame_indices, query.selected_frames)
        for span in query.spans:
            axis.axvspan(span.start_seconds, span.end_seconds, color="#2a9d8f", alpha=0.15, lw=0)
        axis.plot(result.pts_seconds, query.frame_scores, color="#264653", lw=1.2)
        axis.plot(
            result.pts_seconds[chosen],
            query.frame_scores[chosen],
            "o",
            color="#e76f51",
            ms=5,
            label="selected",
        )
        axis.set_ylim(-0.05, 1.05)
        axis.set_xlim(0, max(result.duration_seconds, 1e-3))
        axis.set_ylabel("score")
        axis.set_title(_title(query), fontsize=10, loc="left")
        axis.grid(alpha=0.25)
    # Above the panel, where it hides no frame.
    axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
    axes[-1].set_xlabel("seconds")
    _save(figure, path)


def _title(query: QueryResult) -> str:
    # A dollar sign would start mathematical text.
    first_line = textwrap.shorten(query.query, width=90, placeholder=" ...") or "(empty question)"
    return first_line.replace("$", r"\$")


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("serve", "matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: str | PathLike[str]) -> None:
    try:
        figure.savefig(path, format="png", dpi=110)
    except OSError as error:
        raise InvalidRequestError(f"cannot write {path}: {error.strerror}") from error
