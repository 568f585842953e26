"""`groundserve ask`: what a model says of a video, in words and times."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from groundserve.arguments import check_timeout
from groundserve.cli._checks import (
    as_file,
    check_outputs,
    check_request,
    check_video,
    parse_clip,
    parse_parts,
)
from groundserve.cli._options import (
    AsJson,
    ClipSeconds,
    ControlTokens,
    DeviceName,
    FamilyName,
    FetchRules,
    MaxNewTokens,
    PartValues,
    Raw,
    TaskName,
    VllmPython,
    grouped,
    made_of,
)
from groundserve.cli._output import print_json, print_note, progress
from groundserve.cli.result_output import (
    named,
    print_answers,
    print_engine_note,
    print_notes,
)
from groundserve.errors import InvalidRequestError
from groundserve.families import check_asked, takes_query
from groundserve.families.base import TextFamily
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from groundserve.scoring.opener import check_answerer, open_answerer
from groundserve.visuals import save_moment_plot, save_subtitles

_DEFAULTS = AnswerOptions()


@grouped
def command(
    ctx: typer.Context,
    video: Annotated[str, typer.Argument(help="Video file or URL; - reads it from stdin.")],
    query: Annotated[
        list[str] | None,
        typer.Option(
            help="Question, or what to find; may be given several times. Some tasks take none."
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Answer with PyTorch: directory of a checkpoint of vtimellm, grounded_videollm or "
            "vtgllm."
        ),
    ] = None,
    family: FamilyName = None,
    part: PartValues = None,
    device: DeviceName = None,
    engines: Annotated[
        Path | None, typer.Option(help="Answer in this process with an engine directory.")
    ] = None,
    vllm_python: VllmPython = None,
    server: Annotated[
        str | None, typer.Option(help="Answer on a running server: grpc://HOST:PORT.")
    ] = None,
    task: TaskName = _DEFAULTS.task,
    raw: Raw = _DEFAULTS.raw,
    control_tokens: ControlTokens = _DEFAULTS.control_tokens,
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
    timeout_seconds: Annotated[
        float | None,
        typer.Option(
            help="Longest time for all questions; what there is by then is the answer.",
            show_default=f"{Limits().max_request_seconds:g}, or the server's",
        ),
    ] = None,
    *,
    urls: FetchRules,
    as_json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="PNG of the moments on a time line.")] = None,
    srt: Annotated[
        Path | None, typer.Option(help="Subtitles to write: each moment with what happens in it.")
    ] = None,
) -> None:
    """Ask a model that answers in text about a video: when something happens, or what.

    Without --checkpoint, --engines or --server, asks the small checkpoint that
    comes with groundserve, which knows moving digits alone. Times are in seconds of
    the whole video. docs/ask.md

    Example: [bold]groundserve ask talk.mp4 --query "she shows the chart" --engines engines[/bold]

    Example: [bold]groundserve ask talk.mp4 --task captions --engines engines --srt talk.srt[/bold]
    """
    queries = query or []
    options = made_of(ctx.params, AnswerOptions, clip_seconds=parse_clip(clip_seconds))
    limits = check_request(options, queries, server=server)
    if timeout_seconds is not None:
        timeout_seconds = check_timeout(timeout_seconds)
        if limits:
            most = max(limits.max_request_seconds, timeout_seconds)
            limits = dataclasses.replace(limits, max_request_seconds=most)
    policy = urls.policy()
    check_video(video, policy, command="ask")
    check_outputs({"--srt": srt, "--plot": plot}, inputs=[Path(video)])
    parts = parse_parts(part or [], checkpoint=checkpoint)
    sources: dict[str, Any] = {"family": family, "parts": parts, "device": device}
    _check_asked(check_answerer(checkpoint, engines, server, **sources), queries, options)
    path = ctx.with_resource(as_file(video, policy))
    with (
        progress("loading") as step,
        open_answerer(checkpoint, engines, server, **sources, limits=limits) as answerer,
    ):
        step("answering")
        result = answerer.ask(path, queries, options, timeout_seconds=timeout_seconds)
    result = named(result, video)
    if plot is not None:
        save_moment_plot(plot, result)
    if srt is not None:
        if num_left_out := save_subtitles(srt, result):
            print_note(f"{srt} lacks moments that end before they start: {num_left_out}")
        elif not any(answer.moments for answer in result.answers):
            print_note(f"{srt} is empty: no answer tells a time")
    print_notes(result, options)
    print_engine_note(result)
    if as_json:
        print_json(result.to_json())
    else:
        print_answers(result)


def _check_asked(
    family: TextFamily[Any] | None, queries: Sequence[str], options: AnswerOptions
) -> None:
    """Refuse before anything is loaded what `check_asked` would; a server knows its own rules."""
    is_task = family is None or options.task in family.tasks
    if is_task and not queries and takes_query(options, family):
        what = "--raw" if options.raw else f"--task {options.task}"
        raise InvalidRequestError(f"{what} needs a question: give --query")
    if family is not None:
        for query in queries or ("",):
            check_asked(query, options, family, name="--query")
