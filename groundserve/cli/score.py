"""`groundserve score`: the frames of a video that answer a question."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from groundserve.cli._checks import (
    STDIN,
    STDIN_NAME,
    as_file,
    check_outputs,
    check_pictures,
    check_queries,
    check_video,
)
from groundserve.cli._options import (
    Checkpoint,
    DeviceName,
    SampleFps,
    SamplingRule,
    SeekRule,
    SelectorName,
    SpanGapSeconds,
    SpanThreshold,
    TopK,
    VisionTower,
)
from groundserve.cli._output import (
    plain_table,
    print_json,
    print_line,
    print_note,
    progress,
    stdout,
)
from groundserve.cli.frames import check_frames, write_frames
from groundserve.cli.score_records import (
    JsonlFormat,
    named_by_content,
    plan_records,
    write_records,
)
from groundserve.cli.sheet import draw_contact_sheet
from groundserve.cli.visuals import format_seconds, save_score_plot
from groundserve.errors import UnsupportedError
from groundserve.families import get_frames_family
from groundserve.limits import Limits
from groundserve.options import DEFAULT_NUM_FRAMES, ScoreOptions
from groundserve.results import QueryResult, ScoreResult, VideoInfo
from groundserve.scoring.opener import check_scorer, open_scorer
from groundserve.spans import (
    DEFAULT_SPAN_GAP_SECONDS,
    DEFAULT_SPAN_THRESHOLD,
    check_span_options,
)

logger = logging.getLogger(__name__)

NAME = "score"
_DEFAULTS = ScoreOptions()
_SHOWN_FRAMES = 8


def command(
    ctx: typer.Context,
    video: Annotated[Path, typer.Argument(help="Video file; - reads it from stdin.")],
    query: Annotated[list[str], typer.Option(help="Question; may be given several times.")],
    checkpoint: Checkpoint = None,
    vision_tower: VisionTower = None,
    device: DeviceName = None,
    engines: Annotated[
        Path | None, typer.Option(help="Score in this process with an engine directory.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Score on a running server: grpc://HOST:PORT.")
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            help=f"Most frames to score; else {DEFAULT_NUM_FRAMES}, or as many as the checkpoint "
            "takes."
        ),
    ] = _DEFAULTS.num_frames,
    sample_fps: SampleFps = _DEFAULTS.sample_fps,
    sampling: SamplingRule = _DEFAULTS.sampling,
    seek: SeekRule = _DEFAULTS.seek,
    top_k: TopK = _DEFAULTS.top_k,
    selector: SelectorName = _DEFAULTS.selector,
    span_threshold: SpanThreshold = DEFAULT_SPAN_THRESHOLD,
    span_gap_seconds: SpanGapSeconds = DEFAULT_SPAN_GAP_SECONDS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    jsonl: Annotated[
        Path | None, typer.Option(help="Add a record of each question to this file.")
    ] = None,
    jsonl_format: Annotated[
        str,
        typer.Option(
            help=f"Records of --jsonl: {', '.join(get_args(JsonlFormat))}. ranking has all frames, "
            "best first, whatever --top-k and --selector; selected has what these two choose, in "
            "time order, and needs --doc-id."
        ),
    ] = "ranking",
    doc_id: Annotated[
        int | None,
        typer.Option(
            help="Number of the first question in its benchmark; the next ones have N+1, N+2, ...",
            show_default="text, from the video's path and the question",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace records of --jsonl that have the same id.")
    ] = False,
    contact_sheet: Annotated[Path | None, typer.Option(help="PNG of the selected frames.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG of the scores over time.")] = None,
    frames: Annotated[
        Path | None, typer.Option(help="Folder for the selected frames as images, with an index.")
    ] = None,
    frames_format: Annotated[
        str | None, typer.Option(help="Images of --frames: png (default) or jpeg.")
    ] = None,
) -> None:
    """Score a video's frames for one or more questions.

    Without --checkpoint, --engines or --server, the small checkpoint that comes with groundserve
    scores on this machine's CPU.

    Example: [bold]groundserve score talk.mp4 --query "When is the chart shown?" --top-k 8[/bold]
    """
    options = ScoreOptions(
        num_frames=num_frames,
        sample_fps=sample_fps,
        sampling=sampling,  # type: ignore[arg-type] # checked by ScoreOptions
        seek=seek,  # type: ignore[arg-type]
        top_k=top_k,
        selector=selector,  # type: ignore[arg-type]
    )
    limits = Limits() if server is None else None  # a server has its own
    if limits:
        options.check(limits)
    check_queries(query, limits=limits)
    check_span_options(span_threshold, span_gap_seconds)
    check_video(video)
    pictures = {"--contact-sheet": contact_sheet, "--plot": plot}
    check_outputs({"--jsonl": jsonl, **pictures}, inputs=[video])
    check_pictures(pictures)
    check_scorer(checkpoint, engines, server, vision_tower=vision_tower, device=device)
    is_stdin = video == STDIN
    video = ctx.with_resource(as_file(video))
    records = plan_records(
        jsonl,
        named_by_content(video) if is_stdin else video,
        query,
        jsonl_format=jsonl_format,
        doc_id=doc_id,
        replace=replace,
    )
    frame_files = check_frames(frames, frames_format, video=video, queries=query)
    with (
        progress("loading") as step,
        open_scorer(
            checkpoint, engines, server, vision_tower=vision_tower, device=device
        ) as scorer,
    ):
        step("scoring")
        result = scorer.score(
            video,
            query,
            options,
            span_threshold=span_threshold,
            span_gap_seconds=span_gap_seconds,
        )
    timing = ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in result.timing_ms.items())
    logger.info("scored by engine %s: %s", result.engine.get("id"), timing)
    if is_stdin:
        result = dataclasses.replace(result, video=STDIN_NAME)
    if records is not None:
        write_records(records, result)
    if contact_sheet is not None:
        draw_contact_sheet(contact_sheet, video, result)
    if plot is not None:
        save_score_plot(plot, result)
    written = write_frames(frame_files, result)
    is_cut = len(result.frame_indices) == result.num_frames < DEFAULT_NUM_FRAMES
    if num_frames is None and is_cut:
        print_note(
            f"scored {result.num_frames} frames, as many as this checkpoint or server takes; "
            f"the usual default is {DEFAULT_NUM_FRAMES}"
        )
    if result.engine.get("note"):
        print_note(result.engine["note"])
    if as_json:
        print_json(result.to_json() | written)
    else:
        print_result(result)
        if written:
            print_line(f"frames: {written['frames_index']}")


def print_result(result: ScoreResult) -> None:
    """Print an answer as tables."""
    print_line(
        f"{result.video}: {result.num_source_frames} frames, {result.fps:.3f} fps, "
        f"{format_seconds(result.duration_seconds)}; scored {len(result.frame_indices)} frames"
        f"{_what_each_became(result.info)}"
    )
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


def _what_each_became(info: VideoInfo) -> str:
    """Say what a frame is to the model; nothing where a newer server's family is not known here."""
    try:
        family = get_frames_family(str(info.engine.get("family")))
        return f" with {family.describe(info.facts)}"
    except (UnsupportedError, KeyError):  # KeyError: a fact that another version had
        return ""


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
