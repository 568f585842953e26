"""`groundserve score`: the frames of a video that answer a question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from groundserve.cli._checks import (
    as_file,
    check_outputs,
    check_request,
    check_video,
    is_copied,
)
from groundserve.cli._options import (
    AsJson,
    Checkpoint,
    DeviceName,
    FetchRules,
    FrameRules,
    VisionTower,
    grouped,
)
from groundserve.cli._output import print_json, print_line, print_note, progress
from groundserve.cli.result_output import named, print_engine_note, print_scores
from groundserve.cli.score_files import (
    JsonlFormat,
    named_by_content,
    plan_frames,
    plan_records,
)
from groundserve.options import DEFAULT_NUM_FRAMES
from groundserve.scoring.opener import check_scorer, open_scorer
from groundserve.spans import check_span_options
from groundserve.visuals import save_contact_sheet, save_score_plot


@grouped
def command(
    ctx: typer.Context,
    video: Annotated[str, typer.Argument(help="Video file or URL; - reads it from stdin.")],
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
    ] = None,
    *,
    rules: FrameRules,
    urls: FetchRules,
    as_json: AsJson = False,
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
    options = rules.options(num_frames)
    spans = {"span_threshold": rules.span_threshold, "span_gap_seconds": rules.span_gap_seconds}
    check_request(options, query, server=server)
    check_span_options(**spans)
    policy = urls.policy()
    check_video(video, policy)
    outputs = {"--jsonl": jsonl, "--contact-sheet": contact_sheet, "--plot": plot}
    check_outputs(outputs, inputs=[Path(video)])
    sources: dict[str, Any] = {"vision_tower": vision_tower, "device": device}
    check_scorer(checkpoint, engines, server, **sources)
    path = ctx.with_resource(as_file(video, policy))
    write_records = plan_records(
        jsonl,
        named_by_content(path) if is_copied(video) else path,
        query,
        jsonl_format=jsonl_format,
        doc_id=doc_id,
        replace=replace,
    )
    write_frames = plan_frames(frames, frames_format, video=path, queries=query)
    with progress("loading") as step, open_scorer(checkpoint, engines, server, **sources) as scorer:
        step("scoring")
        result = scorer.score(path, query, options, **spans)
    result = named(result, video)
    write_records(result)
    if contact_sheet is not None:
        save_contact_sheet(contact_sheet, path, result)
    if plot is not None:
        save_score_plot(plot, result)
    written = write_frames(result)
    is_cut = len(result.frame_indices) == result.num_frames < DEFAULT_NUM_FRAMES
    if num_frames is None and is_cut:
        print_note(
            f"scored {result.num_frames} frames, as many as this checkpoint or server takes; "
            f"the usual default is {DEFAULT_NUM_FRAMES}"
        )
    print_engine_note(result)
    if as_json:
        print_json(result.to_json() | written)
    else:
        print_scores(result)
        if written:
            print_line(f"frames: {written['frames_index']}")
