"""What `groundserve train STAGE` runs and prints."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path

import typer

from groundserve.cli._output import print_json, print_line, progress, say_error, step_lines
from train import config_file, logs, stop, validation
from train.config import Stage
from train.logs import StepReport
from train.loop import OnStep, train
from train.validation import OnValidation

_LINE_SECONDS = 10.0


def train_stage(stage: Stage, config: Path, *, resume: bool, as_json: bool) -> None:
    """Train a stage and say what came of it, in its first process alone."""
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
