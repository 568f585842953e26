"""Pictures of an answer for people: selected frames, scores over time, moments; and subtitles."""

from __future__ import annotations

import html
import io
import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundserve import extras
from groundserve.answers import AnswerResult, Moment
from groundserve.arguments import Video
from groundserve.errors import InvalidRequestError
from groundserve.frames import data_url, iterate_frames
from groundserve.results import ScoreResult
from groundserve.subtitles import cues_of, srt_text

_COLUMNS = 4
_TILE_INCHES = 2.6
_THUMBNAIL_PIXELS = 320
_LANE_INCHES = 0.3
_MAX_LANES = 40


def format_seconds(seconds: float) -> str:
    """Return `h:mm:ss.s`, or `m:ss.s` below an hour."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{clock}:{rest // 10:02d}.{rest % 10}"


def save_contact_sheet(path: Path, video: Path, result: ScoreResult) -> None:
    """Save what `contact_sheet` draws, as PNG."""
    _save(contact_sheet(video, result), path)


def contact_sheet(video: Video, result: ScoreResult) -> Any:
    """Draw the selected frames of every question, decoded once more, with times and scores.

    Returns:
        A figure of matplotlib, as the others here.
    """
    ordinals = np.unique(np.concatenate([query.selected_frames for query in result.queries]))
    frames = list(iterate_frames(video, ordinals, longest_side=_THUMBNAIL_PIXELS))
    picture = dict(zip(ordinals.tolist(), frames, strict=True))
    rows = [math.ceil(len(query.selected_frames) / _COLUMNS) for query in result.queries]
    height, width = frames[0].shape[:2]
    tile_height = _TILE_INCHES * height / width + 0.35
    figure = _figure(_COLUMNS * _TILE_INCHES, sum(rows) * tile_height + 0.5 * len(rows))
    parts = np.atleast_1d(figure.subfigures(len(rows), 1, height_ratios=rows))
    for part, query, num_rows in zip(parts, result.queries, rows, strict=True):
        part.suptitle(_title(query.query), fontsize=11, x=0.02, ha="left", weight="bold")
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
    return figure


def save_score_plot(path: Path, result: ScoreResult) -> None:
    """Save what `score_plot` draws, as PNG."""
    _save(score_plot(result), path)


def score_plot(result: ScoreResult) -> Any:
    """Draw each question's score over time, with selected frames and spans marked."""
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
        axis.set_title(_title(query.query), fontsize=10, loc="left")
        axis.grid(alpha=0.25)
    # Above the panel, where it hides no frame.
    axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
    axes[-1].set_xlabel("seconds")
    return figure


def save_moment_plot(path: Path, result: AnswerResult) -> None:
    """Save what `moment_plot` draws, as PNG."""
    _save(moment_plot(result), path)


def moment_plot(result: AnswerResult) -> Any:
    """Draw each question's moments on the time line of the video, one below the other.

    What of the video was not seen is grey; a moment that ends before it starts is hollow. Of an
    answer with more than 40 moments the first 40 are drawn.
    """
    num_lanes = [min(max(len(answer.moments), 1), _MAX_LANES) for answer in result.answers]
    figure = _figure(9, _LANE_INCHES * sum(num_lanes) + 0.55 * len(num_lanes) + 0.5)
    axes = np.ravel(
        figure.subplots(len(num_lanes), 1, sharex=True, squeeze=False, height_ratios=num_lanes)
    )
    ends = [moment.end_seconds for answer in result.answers for moment in answer.moments]
    last = max([result.info.duration_seconds, 1e-3, *ends])
    seen = result.generation.time_range_seconds or (0.0, last)
    for axis, answer, num in zip(axes, result.answers, num_lanes, strict=True):
        for start, end in ((0.0, seen[0]), (seen[1], last)):
            axis.axvspan(start, end, color="#bbbbbb", alpha=0.4, lw=0)
        _draw_moments(axis, answer.moments[:num], last)
        axis.set_xlim(0, last)
        axis.set_ylim(num - 0.5, -0.5)  # the first on top
        axis.set_yticks([])
        left_out = f"  (the first {num} of {len(answer.moments)})" * (len(answer.moments) > num)
        axis.set_title(_title(answer.query or answer.task) + left_out, fontsize=10, loc="left")
        axis.grid(axis="x", alpha=0.25)
    axes[-1].set_xlabel("seconds")
    return figure


def plot(result: ScoreResult | AnswerResult) -> Any:
    """Draw scores or moments over time, whichever a result has."""
    return score_plot(result) if isinstance(result, ScoreResult) else moment_plot(result)


def notebook_html(result: ScoreResult | AnswerResult) -> str:
    """Return what a notebook shows of a result: its text, and its plot."""
    lines = [one.text for one in result.answers] if isinstance(result, AnswerResult) else []
    buffer = io.BytesIO()
    _save(plot(result), buffer)
    texts = [f"<p>{html.escape(line)}</p>" for line in (result.video, *lines)]
    picture = data_url(buffer.getvalue(), "image/png")
    return f'{"".join(texts)}<img src="{picture}" alt="Scores or moments over time">'


def save_subtitles(path: Path, result: AnswerResult) -> int:
    """Write an SRT file; returns how many moments have no cue, as they end before they start."""
    cues = cues_of(result)
    try:
        # Questions from a locale of ASCII may hold half a character.
        Path(path).write_text(srt_text(cues), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InvalidRequestError(f"cannot write {path}: {error.strerror}") from error
    return sum(len(answer.moments) for answer in result.answers) - len(cues)


def _draw_moments(axis: Any, moments: Sequence[Moment], last: float) -> None:
    if not moments:
        axis.text(last / 2, 0, "no moments", ha="center", va="center", fontsize=8, color="#777777")
    for lane, moment in enumerate(moments):
        start, end = sorted((moment.start_seconds, moment.end_seconds))
        is_reversed = moment.start_seconds > moment.end_seconds
        axis.barh(
            lane,
            # Moments of no length are seen, too.
            max(end - start, last / 500),
            left=start,
            height=0.75,
            facecolor="none" if is_reversed else "#2a9d8f66",
            edgecolor="#e76f51" if is_reversed else "#2a9d8f",
        )
        score = "" if moment.score is None else f"  score {moment.score:.2f}"
        times = f"{format_seconds(moment.start_seconds)}-{format_seconds(moment.end_seconds)}"
        is_late = start > last / 2  # its label has more room to its left
        axis.text(
            end - last / 200 if is_late else start + last / 200,
            lane,
            f"{times}{score}  {_shortened(moment.text, width=50)}".rstrip(),
            ha="right" if is_late else "left",
            va="center",
            fontsize=8,
        )


def _title(text: str) -> str:
    return _shortened(text, width=90) or "(empty question)"


def _shortened(text: str, *, width: int) -> str:
    # A dollar sign would start mathematical text.
    return textwrap.shorten(text, width=width, placeholder=" ...").replace("$", r"\$")


def _figure(width: float, height: float) -> Any:
    return extras.matplotlib.figure.Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path | io.BytesIO) -> None:
    try:
        with warnings.catch_warnings():
            # Characters that the font lacks, such as Chinese ones, are drawn as boxes.
            warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
            figure.savefig(path, format="png", dpi=110)
    except OSError as error:
        raise InvalidRequestError(f"cannot write {path}: {error.strerror}") from error
