"""What `groundserve ask` says of answers: on stdout for people, and notes on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from groundserve.answers import AnswerResult, Moment
from groundserve.cli._output import cell, plain_table, print_line, print_note, stdout
from groundserve.cli.visuals import format_seconds
from groundserve.errors import UnsupportedError
from groundserve.families import get_text_family
from groundserve.options import AnswerOptions
from groundserve.results import VideoInfo


def print_answers(result: AnswerResult) -> None:
    """Print the answers as text, each with a table of its moments."""
    info, seen = result.info, result.generation.time_range_seconds
    print_line(
        f"{result.video}: {info.num_source_frames} frames, {info.fps:.3f} fps, "
        f"{format_seconds(info.duration_seconds)}; saw {len(result.frame_indices)} frames"
        f"{_what_it_became(info)}"
    )
    if seen is not None and seen != (0.0, info.duration_seconds):
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
    info = result.info
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
    if info.engine.get("note"):
        print_note(info.engine["note"])


def _what_it_became(info: VideoInfo) -> str:
    """Say what a frame is to the model; nothing where a newer server's family is not known here."""
    try:
        family = get_text_family(str(info.engine.get("family")))
        return f", {family.describe(info.facts)}"
    except (UnsupportedError, KeyError):  # KeyError: a fact that another version had
        return ""


def _moments_table(moments: Sequence[Moment]) -> Any:
    has_scores = any(moment.score is not None for moment in moments)
    table = plain_table("from", "to", *["score"] * has_scores, "")
    for moment in moments:
        times = map(format_seconds, (moment.start_seconds, moment.end_seconds))
        score = "" if moment.score is None else f"{moment.score:.3f}"
        table.add_row(*times, *[score] * has_scores, cell(moment.text))
    return table
