"""The options of `groundserve batch`, and what they name: engines, what rows are asked, images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from groundserve.batch.engines import EngineSource
from groundserve.batch.frame_output import FrameOutput
from groundserve.batch.group_scorer import DEFAULT_DEADLINE_SECONDS
from groundserve.batch.row_options import RowOptions
from groundserve.cli._checks import parse_clip, parse_parts
from groundserve.cli._options import (
    AsJson,
    Checkpoint,
    ClipSeconds,
    ControlTokens,
    DeviceName,
    FamilyName,
    FetchRules,
    FrameRules,
    MaxNewTokens,
    PartValues,
    Raw,
    TaskName,
    VisionTower,
    VllmPython,
    is_given,
    made_of,
)
from groundserve.engines.manifest import Manifest
from groundserve.errors import InvalidRequestError
from groundserve.frame_files import DEFAULT_QUALITY
from groundserve.options import DEFAULT_NUM_FRAMES, AnswerOptions, Head
from groundserve.scoring.checkpoint_family import checkpoint_family
from groundserve.storage import open_storage

_DEFAULTS = AnswerOptions()
_OF_FRAMES = (
    *("sample_fps", "sampling", "seek", "top_k", "selector", "span_threshold", "span_gap_seconds"),
    *("frames", "frames_format", "frames_quality", "frames_side", "vision_tower"),
)
_OF_TEXT = (
    *("task", "raw", "control_tokens", "clip_seconds", "max_new_tokens"),
    *("family", "part"),
)


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """The options as they were given; see the help of each."""

    manifest: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST",
            help="Rows of video, query, and maybe id and options: .jsonl, .parquet or .csv; or a "
            "folder of videos, with --query.",
        ),
    ]
    out: Annotated[
        str, typer.Option(help="Run directory: an empty or new folder, or a URL such as s3://...")
    ]
    query: Annotated[
        list[str] | None,
        typer.Option(help="Question about each video of a folder; may be given several times."),
    ] = None
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out: what is missing or failed."),
    ] = False
    checkpoint: Checkpoint = None
    vision_tower: VisionTower = None
    family: FamilyName = None
    part: PartValues = None
    device: DeviceName = None
    engines: Annotated[
        Path | None, typer.Option(help="Score in the workers with an engine directory.")
    ] = None
    vllm_python: VllmPython = None
    server: Annotated[
        list[str] | None,
        typer.Option(
            help="Score on a running server, grpc://HOST:PORT; may be given several times, for "
            "servers with the same engines."
        ),
    ] = None
    num_frames: Annotated[
        int | None,
        typer.Option(
            help=f"Most frames to score; else {DEFAULT_NUM_FRAMES}, or as many as the checkpoint "
            "takes. A row's own options come before this and those below."
        ),
    ] = None
    rules: FrameRules
    urls: FetchRules
    task: TaskName = _DEFAULTS.task
    raw: Raw = _DEFAULTS.raw
    control_tokens: ControlTokens = _DEFAULTS.control_tokens
    clip_seconds: ClipSeconds = None
    max_new_tokens: MaxNewTokens = _DEFAULTS.max_new_tokens
    hash_content: Annotated[
        bool,
        typer.Option(
            "--hash-content",
            help="Tell videos by their content, not by path, size and time: reads each file.",
        ),
    ] = False
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that score.", show_default="as many as there are CPUs, or GPUs, for"
        ),
    ] = None
    cpus_per_worker: Annotated[
        float, typer.Option(help="CPUs of each worker, and threads of its engines.")
    ] = 1.0
    gpus_per_worker: Annotated[
        float, typer.Option(help="GPUs of each worker; 0.5 puts two on one.")
    ] = 0.0
    timeout_seconds: Annotated[
        float, typer.Option(help="Longest time for a video with its questions (32 at a time).")
    ] = DEFAULT_DEADLINE_SECONDS
    max_attempts: Annotated[
        int, typer.Option(help="How often a row is tried at most, all runs with --resume counted.")
    ] = 3
    frames: Annotated[
        str | None,
        typer.Option(help="Folder or URL for the selected frames as images, with an index."),
    ] = None
    frames_format: Annotated[
        str | None, typer.Option(help="Images of --frames: jpeg (default) or png.")
    ] = None
    frames_quality: Annotated[
        int | None,
        typer.Option(help="Of jpeg, from 1 to 100.", show_default=str(DEFAULT_QUALITY)),
    ] = None
    frames_side: Annotated[
        int | None,
        typer.Option(help="Most pixels of an image's longer side.", show_default="the video's"),
    ] = None
    price_per_hour: Annotated[
        float | None,
        typer.Option(help="Of all machines together, in any currency: the report has the cost."),
    ] = None
    as_json: AsJson = False

    def source(self, ctx: typer.Context) -> EngineSource:
        """Return what answers, and refuse options that are for the other head.

        Which head servers have they only say later: `--task` tells.
        """
        parts = parse_parts(self.part or [], checkpoint=self.checkpoint)
        head: Head = "text" if is_given(ctx, "task") else "frames"
        if self.checkpoint is not None:
            head = checkpoint_family(self.checkpoint, family=self.family, parts=parts).head
        elif self.engines is not None:
            head = Manifest.load(self.engines).seam.head
        for name in _OF_TEXT if head == "frames" else _OF_FRAMES:
            if is_given(ctx, name):
                one, other = "an engine that answers in text", "scores"
                if head == "text":
                    one, other = "an engine that scores frames", "answers in text"
                option = name.replace("_", "-")
                raise InvalidRequestError(f"--{option} is for {one}, and this one {other}")
        servers = tuple(self.server or ())
        return made_of(vars(self), EngineSource, servers=servers, head=head, parts=parts)

    def row_options(self, head: Head) -> RowOptions:
        """Return what is asked in rows that do not say so themselves."""
        if head == "frames":
            return self.rules.options(self.num_frames)
        clip_seconds = parse_clip(self.clip_seconds)
        return made_of(vars(self), AnswerOptions, clip_seconds=clip_seconds)

    def frame_output(self) -> FrameOutput | None:
        """Return where images go, None where none are asked for."""
        if self.frames is None:
            for name in ("frames_format", "frames_quality", "frames_side"):
                if getattr(self, name) is not None:
                    raise InvalidRequestError(f"--{name.replace('_', '-')} goes with --frames")
            return None
        if self.frames == "-":
            raise InvalidRequestError("--frames must name a folder, got -")
        return FrameOutput(
            directory=open_storage(self.frames).place,  # workers may start in another folder
            image_format=self.frames_format or "jpeg",  # type: ignore[arg-type]  # checked there
            quality=self.frames_quality,
            longest_side=self.frames_side,
        )
