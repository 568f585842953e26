"""`groundserve train`: a stage, from a config file to a checkpoint; its check; its data."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundserve.cli._checks import check_input
from groundserve.cli._options import AsJson
from groundserve.cli._output import (
    cell,
    plain_table,
    print_json,
    print_line,
    progress,
    say_error,
    stdout,
    step_lines,
)
from groundserve.cli.train_check import as_fields, print_report
from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.runtime.own_packages import require_own

if TYPE_CHECKING:
    from train.config import Stage
    from train.logs import StepReport
    from train.loop import OnStep
    from train.validation import OnValidation

NAME = "train"
STAGES = ("projector", "images", "video", "grounding")
EXIT_NOT_USABLE = 2
"""Of `train check`, as of everything that the caller has to change."""

_LINE_SECONDS = 10.0

app = typer.Typer(
    help="""Train one stage and write a checkpoint that `build` and `score` take.

    Example: [bold]groundserve train check --config run.toml[/bold]

    Example: [bold]groundserve train grounding --config run.toml[/bold]

    Example: [bold]torchrun --nproc-per-node 8 -m groundserve.cli.main train grounding
    --config run.toml --resume[/bold]
    """,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_Config = Annotated[Path, typer.Option(help="TOML file: what differs from the stage's own.")]


def _add_stage(stage: Stage, summary: str) -> None:
    @app.command(stage, help=f"{summary}\n\n{_STAGE_HELP.format(stage=stage)}")
    def command(
        config: _Config,
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on from the newest checkpoint in `out`.")
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        _train(stage, config, resume=resume, as_json=as_json)


_STAGE_HELP = """`out/metrics.jsonl` and `out/tensorboard` have a line a step; `out/final` is
the result. For several processes start it with torchrun, and set
`parallelism` in the file. On SIGTERM it finishes its step, writes a
checkpoint and ends with code 75; a second SIGTERM ends it at once.

Example: [bold]groundserve train {stage} --config run.toml[/bold]
"""
_add_stage("projector", "Stage 1: the projector learns to caption images.")
_add_stage("images", "Stage 2: all but the vision tower learns to answer about images.")
_add_stage("video", "Stage 3: the same on videos.")
_add_stage("grounding", "Stage 4: all but the vision tower learns to score frames.")


@app.command("check")
def check_run(
    config: _Config,
    stage: Annotated[
        str | None,
        typer.Argument(help="projector, images, video or grounding; else the file's `stage`."),
    ] = None,
    samples: Annotated[int, typer.Option(help="Videos or images to open.")] = 32,
    gpus: Annotated[
        int | None, typer.Option(help="GPUs that share this machine's cores; else those it has.")
    ] = None,
    gpu_tflops: Annotated[float, typer.Option(help="Peak of a GPU in bf16.")] = 989.0,
    utilisation: Annotated[float, typer.Option(help="Share of it that training reaches.")] = 0.4,
    as_json: AsJson = False,
) -> None:
    """Say what would go wrong in a run, and whether decoding keeps up with the GPUs.

    Checks every record, looks up every file, and reads a few samples as the
    run would. Needs no GPU and reads no weights. Ends with code 0 if the run
    is usable, 2 if it is not: more than `data.max_unreadable_share` of it
    would be lost, or it could not begin.

    Example: [bold]groundserve train check --config run.toml[/bold]

    Example: [bold]groundserve train check grounding --config run.toml --gpus 8 --json[/bold]
    """
    known_stage = _known_stage(stage)
    check_input(config)
    with _own_train():
        import torch

        from train import check, config_file

    run = config_file.read_config(known_stage, config)
    num_gpus = (torch.cuda.device_count() or None) if gpus is None else gpus
    with progress("", every_seconds=_LINE_SECONDS) as show:
        report = check.check(
            run,
            num_sampled=samples,
            num_gpus=num_gpus,
            gpu_tflops=gpu_tflops,
            utilisation=utilisation,
            on_progress=lambda what, done, total: show(f"{what}: {done} of {total}"),
        )
    if as_json:
        print_json(as_fields(report))
    else:
        print_report(report, num_gpus=num_gpus)
    raise typer.Exit(0 if report.is_usable else EXIT_NOT_USABLE)


@app.command("convert")
def convert_dataset(
    dataset: Annotated[str, typer.Argument(help="llava-pretrain, llava-onevision or llava-video.")],
    source: Annotated[Path, typer.Argument(help="Folder that it was downloaded to.")],
    out: Annotated[Path, typer.Argument(help="Folder for the result.")],
    include: Annotated[
        list[str] | None,
        typer.Option(help="Record files to take, a glob pattern; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert a training set as it is published to what `train` reads.

    OUT/records.json and OUT/media are what a run's `data.records` and `data.media_root` name;
    OUT/bad_records.jsonl has what was left out, with the rule it breaks. Interrupted, the same
    command goes on where it stopped.

    Example: [bold]groundserve train convert llava-video LLaVA-Video-178K data/llava-video[/bold]

    Example: [bold]groundserve train convert llava-onevision LLaVA-OneVision-Data data/ai2d
    --include 'ai2d*'[/bold]
    """
    if not source.is_dir():
        raise InvalidRequestError(f"no such folder to convert from: {source}")
    with _own_train(without="pillow"):
        from train import convert

    with progress("reading") as show:
        report = convert.convert(dataset, source, out, include=include or (), on_file=show)
    if as_json:
        print_json(
            {**asdict(report), "records": str(report.records), "media_root": str(report.media_root)}
        )
        return
    table = plain_table("number", "records")
    rows = {
        "about an image": report.num_images,
        "about a video": report.num_videos,
        "text alone": report.num_records - report.num_images - report.num_videos,
        "left out": report.num_bad,
        **{f"  {rule}": number for rule, number in report.bad_rules.items()},
    }
    for what, number in rows.items():
        table.add_row(f"{number:,}", cell(what))
    stdout.print(table)
    print_line(f"records {report.records}, media_root {report.media_root}")


def _train(stage: Stage, config: Path, *, resume: bool, as_json: bool) -> None:
    check_input(config)
    with _own_train():
        from train import config_file, logs, stop, validation
        from train.loop import train

    run = config_file.read_config(stage, config)
    try:
        with _progress() as (on_step, on_validation):
            final = train(run, resume=resume, on_step=on_step, on_validation=on_validation)
    except stop.RunStoppedError as stopped:
        if _is_first():
            say_error(f"groundserve: {stopped}")
        raise typer.Exit(stop.EXIT_STOPPED) from None
    if not _is_first():
        return
    steps = [line for line in logs.read_metrics(run.out) if "loss" in line]
    last = steps[-1] if steps else {}  # somebody removed the log of a run that is done
    found = validation.read_best(run.out) if run.validation else None
    if as_json:
        print_json({"checkpoint": str(final), **last, **({"best": found} if found else {})})
        return
    print_line(f"checkpoint {final}{_describe_end(**last) if last else ''}")
    if found:
        place, frame_ap = run.out / "best", found["frame_ap"]
        print_line(f"best {place}: step {found['step']}, frame AP {frame_ap:.4f}")


def _describe_end(*, step: int, loss: float | None, num_unreadable: int, **_: object) -> str:
    said = "no loss" if loss is None else f"loss {loss:.4f}"
    return f": {step} steps, {said}, {num_unreadable} unreadable records"


def _known_stage(stage: str | None) -> Stage | None:
    if stage is not None and stage not in STAGES:
        raise InvalidRequestError(f"STAGE must be one of {', '.join(STAGES)}, got {stage}")
    return stage  # type: ignore[return-value] # checked


@contextmanager
def _own_train(without: str = "torch") -> Iterator[None]:
    """Have `train` imported in the block, groundserve's own, or say how to install it."""
    require_own("train")
    try:
        yield
    except ImportError as error:
        raise MissingExtraError("train", error.name or without) from error


@contextmanager
def _progress() -> Iterator[tuple[OnStep, OnValidation]]:
    """Show steps, loss and time left on stderr, and every measurement on a line of its own.

    The run calls both in its first process alone.
    """
    first: tuple[int, float] | None = None
    say_measured = step_lines()

    def describe(report: StepReport) -> str:
        nonlocal first
        first = first or (report.step, time.monotonic())
        return f"{_describe(report)}{_describe_left(report, *first)}"

    shown = progress("loading", every_seconds=_LINE_SECONDS)
    with shown if _is_first() else nullcontext(say_error) as show:
        yield (
            lambda report: show(describe(report)),
            lambda *measured: say_measured(_describe_measurement(*measured)),
        )


def _describe_left(report: StepReport, first_step: int, start: float) -> str:
    """Return when a run will end, by the mean step since the first one of this process.

    Not rich's `TimeRemainingColumn`: it forgets steps after 30 seconds, which one of a large model
    takes, and measurements and checkpoints between steps count.
    """
    if report.step in (first_step, report.num_steps):
        return ""
    seconds_a_step = (time.monotonic() - start) / (report.step - first_step)
    left = timedelta(seconds=round(seconds_a_step * (report.num_steps - report.step)))
    return f", {left} left, ends about {datetime.now() + left:%Y-%m-%d %H:%M}"


def _describe_measurement(step: int, figures: Mapping[str, float], is_best: bool) -> str:
    start = f"step {step}" if step else "before the first step"
    names = {"num_questions": "questions", "num_left_out": "left out"}
    found = ", ".join(
        f"{value} {names[name]}" if name in names else f"{name.replace('_ap', ' AP')} {value:.4f}"
        for name, value in figures.items()
        if name != "num_left_out" or value
    )
    return f"validation {start}: {found}{'; the best so far' if is_best else ''}"


def _describe(report: StepReport) -> str:
    loss = "no loss" if report.loss is None else f"loss {report.loss:.4f}"
    unreadable = f", {report.num_unreadable} unreadable" if report.num_unreadable else ""
    return f"step {report.step} of {report.num_steps}, epoch {report.epoch:.2f}, {loss}{unreadable}"


def _is_first() -> bool:
    """Whether this is the process that speaks; torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"
