"""`groundserve ask`: what a model says of a video, in words and times."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from groundserve.answers import AnswerResult, Moment
from groundserve.cli._checks import (
    STDIN,
    STDIN_NAME,
    as_file,
    check_outputs,
    check_pictures,
    check_queries,
    check_video,
    parse_clip,
    parse_parts,
)
from groundserve.cli._options import (
    Checkpoint,
    ClipSeconds,
    DeviceName,
    FamilyName,
    MaxNewTokens,
    PartValues,
    Raw,
    TaskName,
)
from groundserve.cli._output import (
    cell,
    plain_table,
    print_json,
    print_line,
    print_note,
    progress,
    stdout,
)
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families import get_text_family
from groundserve.families.base import TextFamily
from groundserve.limits import Limits
from groundserve.options import TASKS_WITHOUT_QUERY, AnswerOptions
from groundserve.results import VideoInfo
from groundserve.scoring.opener import check_answerer, open_answerer
from groundserve.subtitles import save_subtitles
from groundserve.visuals import format_seconds, save_moment_plot

logger = logging.getLogger(__name__)

NAME = "ask"
_DEFAULTS = AnswerOptions()


def command(
    ctx: typer.Context,
    video: Annotated[Path, typer.Argument(help="Video file; - reads it from stdin.")],
    query: Annotated[
        list[str] | None,
        typer.Option(
            help="Question, or what to find; may be given several times. Some tasks take none."
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    family: FamilyName = None,
    part: PartValues = None,
    device: DeviceName = None,
    engines: Annotated[
        Path | None, typer.Option(help="Answer in this process with an engine directory.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Answer on a running server: grpc://HOST:PORT.")
    ] = None,
    task: TaskName = _DEFAULTS.task,
    raw: Raw = _DEFAULTS.raw,
    num_frames: Annotated[
        int | None, typer.Option(help="Most frames to look at, where a family does not fix them.")
    ] = _DEFAULTS.num_frames,
    clip_seconds: ClipSeconds = None,
    max_new_tokens: MaxNewTokens = _DEFAULTS.max_new_tokens,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token; above it, tokens are drawn.")
    ] = _DEFAULTS.temperature,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Draw among the likeliest tokens that together reach this probability.",
            show_default="all",
        ),
    ] = _DEFAULTS.top_p,
    seed: Annotated[
        int | None, typer.Option(help="Of the draws.", show_default="a new one, which is printed")
    ] = _DEFAULTS.seed,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="PNG of the moments on a time line.")] = None,
    srt: Annotated[
        Path | None, typer.Option(help="Subtitles to write: each moment with what happens in it.")
    ] = None,
) -> None:
    """Ask a model that answers in text about a video: when something happens, or what.

    Give one of --checkpoint, --engines and --server. Times are in seconds of
    the whole video. docs/asking.md

    Example: [bold]groundserve ask talk.mp4 --query "she shows the chart" --engines engines[/bold]

    Example: [bold]groundserve ask talk.mp4 --task captions --engines engines --srt talk.srt[/bold]
    """
    queries = query or []
    options = AnswerOptions(
        task=task,  # type: ignore[arg-type] # checked by AnswerOptions
        raw=raw,
        num_frames=num_frames,
        clip_seconds=parse_clip(clip_seconds),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    limits = Limits() if server is None else None  # a server has its own
    if limits:
        options.check(limits)
    check_queries(queries, limits=limits)
    check_video(video, command=NAME)
    check_outputs({"--srt": srt, "--plot": plot}, inputs=[video])
    check_pictures({"--plot": plot})
    parts = parse_parts(part or [], checkpoint=checkpoint)
    known = check_answerer(checkpoint, engines, server, family=family, parts=parts, device=device)
    _check_asked(known, queries, options)
    is_stdin = video == STDIN
    video = ctx.with_resource(as_file(video))
    with (
        progress("loading") as step,
        open_answerer(
            checkpoint, engines, server, family=family, parts=parts, device=device
        ) as answerer,
    ):
        step("answering")
        result = answerer.ask(video, queries, options)
    timing = ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in result.info.timing_ms.items())
    logger.info("answered by engine %s: %s", result.info.engine.get("id"), timing)
    if is_stdin:
        result = dataclasses.replace(result, video=STDIN_NAME)
    if plot is not None:
        save_moment_plot(plot, result)
    if srt is not None and (num_left_out := save_subtitles(srt, result)):
        print_note(f"{srt} lacks moments that end before they start: {num_left_out}")
    _print_notes(result, options)
    if as_json:
        print_json(result.to_json())
    else:
        print_result(result)


def print_result(result: AnswerResult) -> None:
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


def _check_asked(
    family: TextFamily[Any] | None, queries: Sequence[str], options: AnswerOptions
) -> None:
    """Refuse before anything is loaded what a family would refuse after it.

    Args:
        family: None of a server, which knows its own rules.
        queries: Each has words.
        options: Of all of them.

    Raises:
        UnsupportedError: The family has no such task.
        InvalidRequestError: The task takes a question and there is none, or the other way around.
    """
    if family is not None and options.task not in family.tasks:
        raise UnsupportedError(
            f"{family.name} has the tasks {', '.join(family.tasks)}, got {options.task}"
        )
    takes_none = TASKS_WITHOUT_QUERY if family is None else family.tasks_without_query
    if options.raw or options.task not in takes_none:
        if not queries:
            what = "--raw" if options.raw else f"--task {options.task}"
            raise InvalidRequestError(f"{what} needs a question: give --query")
    elif queries and family is not None:
        raise InvalidRequestError(
            f"--task {options.task} takes no --query; --raw asks in your own words"
        )


def _print_notes(result: AnswerResult, options: AnswerOptions) -> None:
    """Say what an answer alone does not: that it is not whole, and how to get it again."""
    info = result.info
    reasons = result.generation.stop_reasons
    if num := reasons.count("length"):
        print_note(
            f"{num} of {len(reasons)} answers were cut at {options.max_new_tokens} tokens; "
            "--max-new-tokens allows more"
        )
    if num := reasons.count("deadline"):
        print_note(f"{num} of {len(reasons)} answers are not whole: the time for all was up")
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
