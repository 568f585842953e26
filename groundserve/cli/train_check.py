"""What `groundserve train check` runs and prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from rich.text import Text

from groundserve.cli._output import cell, plain_table, print_json, progress, stdout
from train.check import CheckReport, Cost, GpuNeeds, check
from train.config import Stage
from train.config_file import read_config

_LINE_SECONDS = 10.0

_NO_GPU = (
    "ok",
    "training",
    "on this CPU: there is no GPU. Its time depends on the model; the run itself says after two "
    "steps when it will end. --gpus N shows what N GPUs would need",
)
_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


def check_run(
    stage: Stage | None,
    config: Path,
    *,
    num_sampled: int,
    num_gpus: int | None,
    gpu_tflops: float,
    utilisation: float,
    as_json: bool,
) -> bool:
    """Print a line for each thing that was looked at, and the verdict, which is returned."""
    run = read_config(stage, config)
    if num_gpus is None:
        num_gpus = torch.cuda.device_count() or None
    with progress("", every_seconds=_LINE_SECONDS) as show:
        report = check(
            run,
            num_sampled=num_sampled,
            num_gpus=num_gpus,
            gpu_tflops=gpu_tflops,
            utilisation=utilisation,
            on_progress=lambda what, done, total: show(f"{what}: {done} of {total}"),
        )
    if as_json:
        print_json({"usable": report.is_usable, **asdict(report)})
        return report.is_usable
    table = plain_table("", "subject", "found")
    for mark, subject, found in _rows(report, num_gpus):
        table.add_row(_MARKS[mark], subject, Text("\n").join(map(cell, found.split("\n"))))
    stdout.print(table)
    return report.is_usable


def _rows(report: CheckReport, num_gpus: int | None) -> list[tuple[str, str, str]]:
    rows = [("ok", "records", f"{report.num_items} items, {report.num_media} files")]
    for fault in report.faults:
        found = f"{fault.num_items} of {fault.num_looked_at}"
        examples = "".join(f"\n{example}" for example in fault.examples)
        rows.append(("warn" if fault.num_items else "ok", fault.kind, found + examples))
    rows += [("warn", "note", warning) for warning in report.warnings]
    cost, gpu = report.cost, report.gpu
    if cost is not None and gpu is not None:
        error = f" ± {_time(cost.core_seconds_error)}" if cost.core_seconds_error else ""
        rows.append(
            (
                "ok",
                "decoding",
                f"{_time(cost.core_seconds)}{error} of one core an item ({cost.num_items} items of "
                f"{cost.num_frames:.0f} frames on average), {_time(3600 * gpu.epoch_core_hours)} "
                "an epoch",
            )
        )
        rows += _gpu_rows(report, cost, gpu) if num_gpus is not None else [_NO_GPU]
    lost = f"{report.lost_share:.1%} of the items would be lost, {report.max_lost_share:.1%} may be"
    if cost is None:
        lost = f"no sampled item could be read; {lost}"
    verdict = "yes" if report.is_usable else "no"
    rows.append(("ok" if report.is_usable else "fail", "usable", f"{verdict}: {lost}"))
    return rows


def _gpu_rows(report: CheckReport, cost: Cost, gpu: GpuNeeds) -> list[tuple[str, str, str]]:
    return [
        (
            "ok",
            "GPU",
            f"{cost.tower_tflop:.3g} TFLOP in the tower and {cost.decoder_tflop:.3g} behind it "
            f"an item: {_time(gpu.seconds)}, {_time(3600 * gpu.epoch_hours)} of one GPU an epoch",
        ),
        (
            "ok",
            "to keep up",
            f"decoding needs {gpu.cores_a_gpu:.3g} cores a GPU; this process may use "
            f"{report.num_cpus}",
        ),
    ]


def _time(seconds: float) -> str:
    """Return a duration in the unit that fits it."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1000 * seconds:.3g} ms"
