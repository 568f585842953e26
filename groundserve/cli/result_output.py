"""What `groundserve score` and `groundserve ask` say of their answers."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, TypeVar

from groundserve.answers import AnswerResult, Moment
from groundserve.cli._checks import is_copied, shown_name
from groundserve.cli._output import cell, plain_table, print_line, print_note, stdout
from groundserve.errors import UnsupportedError
from groundserve.families import get_frames_family, get_text_family
from groundserve.options import AnswerOptions
from groundserve.results import QueryResult, ScoreResult
from groundserve.visuals import format_seconds

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result", ScoreResult, AnswerResult)
_SHOWN_FRAMES = 8


def named(result: _Result, video: str) -> _Result:
    """Log how long an answer took; return it with the name of a video that is no file here."""
    info = result.info
    timing = ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in info.timing_ms.items())
    logger.info("answered by engine %s: %s", info.engine.get("id"), timing)
    return dataclasses.replace(result, video=shown_name(video)) if is_copied(video) else result


def print_engine_note(result: ScoreResult | AnswerResult) -> None:
    """Print on stderr what the checkpoint's note says, where it has one."""
    if note := result.info.engine.get("note"):
        print_note(note)


def print_scores(result: ScoreResult) -> None:
    """Print the selected frames and the spans of every question."""
    _print_video(result, "scored {} frames")
    for query in result.queries:
        print_line("")
        print_line(query.query or "(empty question)", style="bold")
        stdout.print(_frames_table(query, result))
        spans = ", ".join(
            f"{format_seconds(span.start_seconds)}-{format_seconds(span.end_seconds)} "
            f"({span.score:.2f})"
            for span in query.spans
        )
        print_line(f"spans: {spans or 'none above the threshold'}")


def print_answers(result: AnswerResult) -> None:
    """Print the answers as text, each with a table of its moments."""
    _print_video(result, "saw {} frames")
    seen = result.generation.time_range_seconds
    if seen is not None and seen != (0.0, result.info.duration_seconds):
        start, end = map(format_seconds, seen)
        print_line(f"looked at {start} to {end}")
    for answer, is_read in zip(result.answers, result.generation.is_read, strict=True):
        print_line("")
        print_line(answer.query or answer.task, style="bold")
        for line in answer.text.splitlines():
            print_line(line)
        if answer.moments:
            stdout.print(_moments_table(answer.moments))
        elif not is_read:
            print_line("moments: none that can be read in it")


def print_notes(result: AnswerResult, options: AnswerOptions) -> None:
    """Say what an answer alone does not: that it is not whole, and how to get it again."""
    reasons = result.generation.stop_reasons
    if num := reasons.count("length"):
        print_note(
            f"{num} of {len(reasons)} answers were cut at {options.max_new_tokens} tokens; "
            "--max-new-tokens allows more"
        )
    if num := reasons.count("deadline"):
        print_note(
            f"{num} of {len(reasons)} answers are not whole: the time was up; "
            "--timeout-seconds allows more"
        )
    if options.seed is None and result.generation.seed is not None:
        print_note(f"drawn with --seed {result.generation.seed}")


def _print_video(result: ScoreResult | AnswerResult, what_was_done: str) -> None:
    info, name = result.info, str(result.info.engine.get("family"))
    try:
        if isinstance(result, ScoreResult):
            became = f" with {get_frames_family(name).describe(info.facts)}"
        else:
            became = f", {get_text_family(name).describe(info.facts)}"
    # A newer server's family is not known here; KeyError: a fact that another version had.
    except (UnsupportedError, KeyError):
        became = ""
    print_line(
        f"{result.video}: {info.num_source_frames} frames, {info.fps:.3f} fps, "
        f"{format_seconds(info.duration_seconds)}; "
        f"{what_was_done.format(len(result.frame_indices))}{became}"
    )


def _frames_table(query: QueryResult, result: ScoreResult) -> Any:
    scores = dict(zip(result.frame_indices.tolist(), query.frame_scores.tolist(), strict=True))
    selected = list(zip(query.selected_frames.tolist(), query.selected_seconds, strict=True))
    best = sorted(selected, key=lambda item: -scores[item[0]])[:_SHOWN_FRAMES]
    table = plain_table("time", "frame", "score", "")
    for ordinal, seconds in sorted(best):
        bar = "█" * round(scores[ordinal] * 20)
        table.add_row(format_seconds(seconds), str(ordinal), f"{scores[ordinal]:.3f}", bar)
    if len(selected) > _SHOWN_FRAMES:
        table.caption = f"the best {_SHOWN_FRAMES} of {len(selected)} selected frames"
        table.caption_justify = "left"
    return table


def _moments_table(moments: Sequence[Moment]) -> Any:
    has_scores = any(moment.score is not None for moment in moments)
    table = plain_table("from", "to", *["score"] * has_scores, "")
    for moment in moments:
        times = map(format_seconds, (moment.start_seconds, moment.end_seconds))
        score = "" if moment.score is None else f"{moment.score:.3f}"
        table.add_row(*times, *[score] * has_scores, cell(moment.text))
    return table
