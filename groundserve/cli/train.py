"""`groundserve train`: one stage of training, from a config file to a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from groundserve.cli._output import print_json, stderr, stdout
from groundserve.errors import InvalidRequestError, MissingExtraError

if TYPE_CHECKING:
    from train.logs import StepReport
    from train.loop import OnStep

NAME = "train"


def command(
    stage: Annotated[str, typer.Argument(help="projector, images, video or grounding.")],
    config: Annotated[Path, typer.Option(help="TOML file: what differs from the stage's own.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in `out`.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train one stage and write a checkpoint that `build` and `score` take.

    `out/metrics.jsonl` and `out/tensorboard` have a line a step; `out/final` is the result.
    For several processes start it with torchrun, and set `parallelism` in the file.

    Example: [bold]groundserve train grounding --config run.toml[/bold]

    Example: [bold]torchrun --nproc-per-node 8 -m groundserve.cli.main train grounding
    --config run.toml --resume[/bold]
    """
    try:
        from train.config import Stage
        from train.logs import read_metrics
        from train.loop import train
        from train.stages import read_config
        from train.stop import EXIT_STOPPED, RunStoppedError
    except ImportError as error:
        raise MissingExtraError("train", error.name or "torch") from error

    if stage not in get_args(Stage):
        raise InvalidRequestError(f"STAGE must be one of {', '.join(get_args(Stage))}, got {stage}")
    run = read_config(stage, config)  # type: ignore[arg-type] # checked above
    try:
        with _progress_bar() as on_step:
            final = train(run, resume=resume, on_step=on_step)
    except RunStoppedError as stopped:
        if _is_first():
            stderr.print(f"groundserve: {stopped}", soft_wrap=True)
        raise typer.Exit(EXIT_STOPPED) from None
    if not _is_first():
        return
    last = [line for line in read_metrics(run.out) if "loss" in line][-1]
    if as_json:
        print_json({"checkpoint": str(final), **last})
        return
    loss = "no loss" if last["loss"] is None else f"loss {last['loss']:.4f}"
    stdout.print(
        f"checkpoint {final}: {last['step']} steps, {loss}, "
        f"{last['num_unreadable']} unreadable records",
        soft_wrap=True,
    )


@contextmanager
def _progress_bar() -> Iterator[OnStep]:
    """Show steps, loss and time left on stderr (nothing where it is not a terminal)."""
    columns = ("{task.description}", "loss {task.fields[loss]}", "{task.fields[unreadable]}")
    with Progress(
        *map(TextColumn, columns),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
        disable=not (_is_first() and stderr.is_terminal),
    ) as progress:
        task = progress.add_task("loading", total=None, loss="-", unreadable="")

        def show(report: StepReport) -> None:
            progress.update(
                task,
                description=f"epoch {report.epoch:.2f}",
                completed=report.step,
                total=report.num_steps,
                loss="-" if report.loss is None else f"{report.loss:.4f}",
                unreadable=f"{report.num_unreadable} unreadable" if report.num_unreadable else "",
            )

        yield show


def _is_first() -> bool:
    """Whether this is the process that speaks; torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"
