"""`groundserve batch`: score a corpus, with a form of its own to look at a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from groundserve.batch.engines import EngineSource
from groundserve.batch.frame_output import FrameOutput
from groundserve.batch.group_scorer import DEFAULT_DEADLINE_SECONDS
from groundserve.batch.ray_pool import Workers
from groundserve.batch.row_options import RowOptions
from groundserve.batch.storage import open_storage
from groundserve.cli import batch_status
from groundserve.cli._checks import parse_clip, parse_parts
from groundserve.cli._options import (
    Checkpoint,
    ClipSeconds,
    ControlTokens,
    DeviceName,
    FamilyName,
    MaxNewTokens,
    PartValues,
    Raw,
    SampleFps,
    SamplingRule,
    SeekRule,
    SelectorName,
    SpanGapSeconds,
    SpanThreshold,
    TaskName,
    TopK,
    VisionTower,
)
from groundserve.cli.batch_job import BatchJob, find_head
from groundserve.cli.batch_run import run_batch
from groundserve.errors import InvalidRequestError
from groundserve.frame_files import DEFAULT_QUALITY
from groundserve.options import DEFAULT_NUM_FRAMES, AnswerOptions, ScoreOptions
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD

NAME = "batch"
_RUN = "run"
_DEFAULTS = ScoreOptions()
_ANSWER_DEFAULTS = AnswerOptions()
_SPEECH = ("--quiet", "--verbose")


class _TwoForms(TyperGroup):
    """`batch MANIFEST ...`, and `batch status ...` where the first word is that."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        first = next((word for word in args if word not in _SPEECH), None)
        if first == batch_status.NAME:
            return super().make_context(info_name, args, parent, **extra)
        return self.commands[_RUN].make_context(info_name, args, parent, **extra)


app = typer.Typer(
    cls=_TwoForms,
    rich_markup_mode="rich",
    help="Score a corpus, as a run that resumes; batch status DIR: how far one is.",
)
app.command(batch_status.NAME)(batch_status.command)


@app.command(_RUN)
def command(
    ctx: typer.Context,
    manifest: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST",
            help="Rows of video, query, and maybe id and options: .jsonl, .parquet or .csv; or a "
            "folder of videos, with --query.",
        ),
    ],
    out: Annotated[
        str, typer.Option(help="Run directory: an empty or new folder, or a URL such as s3://...")
    ],
    query: Annotated[
        list[str] | None,
        typer.Option(help="Question about each video of a folder; may be given several times."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out: what is missing or failed."),
    ] = False,
    checkpoint: Checkpoint = None,
    vision_tower: VisionTower = None,
    family: FamilyName = None,
    part: PartValues = None,
    device: DeviceName = None,
    engines: Annotated[
        Path | None, typer.Option(help="Score in the workers with an engine directory.")
    ] = None,
    server: Annotated[
        list[str] | None,
        typer.Option(
            help="Score on a running server, grpc://HOST:PORT; may be given several times, for "
            "servers with the same engines."
        ),
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            help=f"Most frames to score; else {DEFAULT_NUM_FRAMES}, or as many as the checkpoint "
            "takes. A row's own options come before this and those below."
        ),
    ] = _DEFAULTS.num_frames,
    sample_fps: SampleFps = _DEFAULTS.sample_fps,
    sampling: SamplingRule = _DEFAULTS.sampling,
    seek: SeekRule = _DEFAULTS.seek,
    top_k: TopK = _DEFAULTS.top_k,
    selector: SelectorName = _DEFAULTS.selector,
    span_threshold: SpanThreshold = DEFAULT_SPAN_THRESHOLD,
    span_gap_seconds: SpanGapSeconds = DEFAULT_SPAN_GAP_SECONDS,
    task: TaskName = _ANSWER_DEFAULTS.task,
    raw: Raw = _ANSWER_DEFAULTS.raw,
    control_tokens: ControlTokens = _ANSWER_DEFAULTS.control_tokens,
    clip_seconds: ClipSeconds = None,
    max_new_tokens: MaxNewTokens = _ANSWER_DEFAULTS.max_new_tokens,
    hash_content: Annotated[
        bool,
        typer.Option(
            "--hash-content",
            help="Tell videos by their content, not by path, size and time: reads each file.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that score.", show_default="as many as there are CPUs, or GPUs, for"
        ),
    ] = None,
    cpus_per_worker: Annotated[
        float, typer.Option(help="CPUs of each worker, and threads of its engines.")
    ] = 1.0,
    gpus_per_worker: Annotated[
        float, typer.Option(help="GPUs of each worker; 0.5 puts two on one.")
    ] = 0.0,
    timeout_seconds: Annotated[
        float, typer.Option(help="Longest time for a video with its questions (32 at a time).")
    ] = DEFAULT_DEADLINE_SECONDS,
    max_attempts: Annotated[
        int, typer.Option(help="How often a row is tried at most, all runs with --resume counted.")
    ] = 3,
    frames: Annotated[
        str | None,
        typer.Option(help="Folder or URL for the selected frames as images, with an index."),
    ] = None,
    frames_format: Annotated[
        str | None, typer.Option(help="Images of --frames: jpeg (default) or png.")
    ] = None,
    frames_quality: Annotated[
        int | None,
        typer.Option(help="Of jpeg, from 1 to 100.", show_default=str(DEFAULT_QUALITY)),
    ] = None,
    frames_side: Annotated[
        int | None,
        typer.Option(help="Most pixels of an image's longer side.", show_default="the video's"),
    ] = None,
    price_per_hour: Annotated[
        float | None,
        typer.Option(help="Of all machines together, in any currency: the report has the cost."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a corpus of videos and questions, as a run that resumes.

    A model that answers in text gives answers and moments in place of scores;
    servers with one need --task. Without --checkpoint, --engines or --server,
    the small checkpoint that comes with groundserve scores. Needs the extra
    batch. Where RAY_ADDRESS is set the workers run on that Ray cluster. A row
    that cannot be scored is a row with an error, and the command still ends
    with 0. docs/batch.md

    Example: [bold]groundserve batch manifest.jsonl --out run --workers 4[/bold]

    Example: [bold]groundserve batch videos --query "When does a goal fall?" --out run[/bold]

    How far a run is: [bold]groundserve batch status run[/bold] (a manifest of
    the name status is ./status)
    """
    parts = parse_parts(part or [], checkpoint=checkpoint)
    head = find_head(ctx, checkpoint, engines, family=family, parts=parts)
    options: RowOptions
    if head == "text":
        options = AnswerOptions(
            task=task,  # type: ignore[arg-type] # checked by AnswerOptions
            raw=raw,
            control_tokens=control_tokens,
            num_frames=num_frames,
            clip_seconds=parse_clip(clip_seconds),
            max_new_tokens=max_new_tokens,
        )
    else:
        options = ScoreOptions(
            num_frames=num_frames,
            sample_fps=sample_fps,
            sampling=sampling,  # type: ignore[arg-type] # checked by ScoreOptions
            seek=seek,  # type: ignore[arg-type]
            top_k=top_k,
            selector=selector,  # type: ignore[arg-type]
        )
    job = BatchJob(
        manifest=manifest,
        out=out,
        queries=tuple(query or ()),
        is_resumed=resume,
        source=EngineSource(
            checkpoint=checkpoint,
            engines=engines,
            servers=tuple(server or ()),
            vision_tower=vision_tower,
            device=device,
            head=head,
            family=family,
            parts=parts,
        ),
        options=options,
        span_threshold=span_threshold,
        span_gap_seconds=span_gap_seconds,
        hash_content=hash_content,
        workers=Workers(count=workers, cpus_each=cpus_per_worker, gpus_each=gpus_per_worker),
        timeout_seconds=timeout_seconds,
        max_attempts=max_attempts,
        frames=_frame_output(frames, frames_format, frames_quality, frames_side),
        price_per_hour=price_per_hour,
    )
    rows = job.check()
    run_batch(job, rows, as_json=as_json)


def _frame_output(
    directory: str | None, image_format: str | None, quality: int | None, side: int | None
) -> FrameOutput | None:
    given = {"--frames-format": image_format, "--frames-quality": quality, "--frames-side": side}
    if directory is None:
        for option, value in given.items():
            if value is not None:
                raise InvalidRequestError(f"{option} goes with --frames")
        return None
    if directory == "-":
        raise InvalidRequestError("--frames must name a folder, got -")
    return FrameOutput(
        directory=open_storage(directory).place,  # workers may start in another folder
        image_format=image_format or "jpeg",  # type: ignore[arg-type]  # checked there
        quality=quality,
        longest_side=side,
    )
