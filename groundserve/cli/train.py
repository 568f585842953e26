"""`groundserve train`: a stage, from a config file to a checkpoint; its check; its data."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import (
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from groundserve.cli import train_convert
from groundserve.cli._checks import check_input
from groundserve.cli._output import StepLines, print_json, print_line, say_error, stderr
from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.runtime.own_packages import require_own

if TYPE_CHECKING:
    from train.config import Stage
    from train.known_faults import Progress as CheckProgress
    from train.logs import StepReport
    from train.loop import OnStep
    from train.measurements import OnValidation

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
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _add_stage(stage: Stage, summary: str) -> None:
    @app.command(stage, help=f"{summary}\n\n{_STAGE_HELP.format(stage=stage)}")
    def command(
        config: _Config,
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on from the newest checkpoint in `out`.")
        ] = False,
        as_json: _Json = False,
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
def check(
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
    as_json: _Json = False,
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
    require_own("train")
    try:
        import torch

        from train.check import check
        from train.config_file import read_config
    except ImportError as error:
        raise MissingExtraError("train", error.name or "torch") from error
    from groundserve.cli.train_check import as_fields, print_report

    run = read_config(known_stage, config)
    num_gpus = (torch.cuda.device_count() or None) if gpus is None else gpus
    with _check_progress() as on_progress:
        report = check(
            run,
            num_sampled=samples,
            num_gpus=num_gpus,
            gpu_tflops=gpu_tflops,
            utilisation=utilisation,
            on_progress=on_progress,
        )
    if as_json:
        print_json(as_fields(report))
    else:
        print_report(report, num_gpus=num_gpus)
    raise typer.Exit(0 if report.is_usable else EXIT_NOT_USABLE)


app.command("convert")(train_convert.command)


def _train(stage: Stage, config: Path, *, resume: bool, as_json: bool) -> None:
    check_input(config)
    require_own("train")
    try:
        from train.config_file import read_config
        from train.logs import read_metrics
        from train.loop import train
        from train.measurements import read_best
        from train.stop import EXIT_STOPPED, RunStoppedError
    except ImportError as error:
        raise MissingExtraError("train", error.name or "torch") from error

    run = read_config(stage, config)
    try:
        with _progress_bar() as (on_step, on_validation):
            final = train(run, resume=resume, on_step=on_step, on_validation=on_validation)
    except RunStoppedError as stopped:
        if _is_first():
            say_error(f"groundserve: {stopped}")
        raise typer.Exit(EXIT_STOPPED) from None
    if not _is_first():
        return
    steps = [line for line in read_metrics(run.out) if "loss" in line]
    last = steps[-1] if steps else {}  # somebody removed the log of a run that is done
    best = read_best(run.out) if run.validation else None
    if as_json:
        print_json({"checkpoint": str(final), **last, **({"best": best} if best else {})})
        return
    print_line(f"checkpoint {final}{_describe_end(**last) if last else ''}")
    if best:
        print_line(f"best {run.out / 'best'}: step {best['step']}, frame AP {best['frame_ap']:.4f}")


def _describe_end(*, step: int, loss: float | None, num_unreadable: int, **_: object) -> str:
    said = "no loss" if loss is None else f"loss {loss:.4f}"
    return f": {step} steps, {said}, {num_unreadable} unreadable records"


def _known_stage(stage: str | None) -> Stage | None:
    if stage is not None and stage not in STAGES:
        raise InvalidRequestError(f"STAGE must be one of {', '.join(STAGES)}, got {stage}")
    return stage  # type: ignore[return-value] # checked


@contextmanager
def _check_progress() -> Iterator[CheckProgress]:
    """Show how far a check is on stderr: a bar on a terminal, elsewhere a line now and then."""
    if not stderr.is_terminal:
        lines = StepLines(every_seconds=_LINE_SECONDS)
        yield lambda what, done, total: lines.show(f"{what}: {done} of {total}")
        return
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr) as progress:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield show


@contextmanager
def _progress_bar() -> Iterator[tuple[OnStep, OnValidation]]:
    """Show steps, loss and time left on stderr: a bar on a terminal, else a line now and then.

    Every measurement has a line of its own. The run calls both in its first process alone.
    """
    end = _ExpectedEnd()
    if not stderr.is_terminal:
        lines, all_lines = StepLines(every_seconds=_LINE_SECONDS), StepLines()
        if _is_first():
            lines.show("loading")
        yield (
            lambda report: lines.show(f"{_describe(report)}{end.describe(report)}"),
            lambda *measured: all_lines.show(_describe_measurement(*measured)),
        )
        return
    columns = ("{task.description}", "loss {task.fields[loss]}", "{task.fields[unreadable]}")
    with Progress(
        *map(TextColumn, columns),
        MofNCompleteColumn(),
        TextColumn("{task.fields[end]}"),
        console=stderr,
        disable=not _is_first(),
    ) as progress:
        task = progress.add_task("loading", total=None, loss="-", unreadable="", end="")

        def show(report: StepReport) -> None:
            progress.update(
                task,
                description=f"epoch {report.epoch:.2f}",
                completed=report.step,
                total=report.num_steps,
                loss="-" if report.loss is None else f"{report.loss:.4f}",
                unreadable=f"{report.num_unreadable} unreadable" if report.num_unreadable else "",
                end=end.describe(report).removeprefix(", "),
            )

        yield show, lambda *measured: progress.console.print(_describe_measurement(*measured))


class _ExpectedEnd:
    """When a run will end, by the mean step since the first one of this process.

    Not rich's `TimeRemainingColumn`: it forgets steps after 30 seconds, which one of a large model
    takes, and measurements and checkpoints between steps count.
    """

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def describe(self, report: StepReport) -> str:
        """Return what to say behind a step; nothing behind the first and the last."""
        now = time.monotonic()
        step, start = self._first = self._first or (report.step, now)
        if report.step in (step, report.num_steps):
            return ""
        seconds = (now - start) / (report.step - step) * (report.num_steps - report.step)
        left = timedelta(seconds=round(seconds))
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
