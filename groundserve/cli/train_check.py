"""What `groundserve train check` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from groundserve.cli._output import cell, plain_table, stdout

if TYPE_CHECKING:
    from train.check import CheckReport

_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


def as_fields(report: CheckReport) -> dict[str, Any]:
    """Return the report as JSON will have it."""
    return {"usable": report.is_usable, **asdict(report)}


def print_report(report: CheckReport) -> None:
    """Print a line for each thing that was looked at, and the verdict."""
    table = plain_table("", "subject", "found")
    for mark, subject, found in _rows(report):
        table.add_row(_MARKS[mark], subject, Text("\n").join(map(cell, found.split("\n"))))
    stdout.print(table)


def _rows(report: CheckReport) -> list[tuple[str, str, str]]:
    rows = [("ok", "records", f"{report.num_items} items, {report.num_media} files")]
    for fault in report.faults:
        found = f"{fault.num_items} of {fault.num_looked_at}"
        examples = "".join(f"\n{example}" for example in fault.examples)
        rows.append(("warn" if fault.num_items else "ok", fault.kind, found + examples))
    rows += [("warn", "note", warning) for warning in report.warnings]
    cost, gpu = report.cost, report.gpu
    if cost is not None and gpu is not None:
        error = f" ± {cost.core_seconds_error:.2g}" if cost.core_seconds_error is not None else ""
        rows += [
            (
                "ok",
                "decoding",
                f"{cost.core_seconds:.3g}{error} core-seconds an item ({cost.num_items} items of "
                f"{cost.num_frames:.0f} frames on average), {gpu.epoch_core_hours:.3g} core-hours "
                "an epoch",
            ),
            (
                "ok",
                "GPU",
                f"{cost.tower_tflop:.3g} TFLOP in the tower and {cost.decoder_tflop:.3g} behind it "
                f"an item: {gpu.seconds:.3g} s, {gpu.epoch_hours:.3g} GPU-hours an epoch",
            ),
            (
                "ok",
                "to keep up",
                f"decoding needs {gpu.cores_a_gpu:.3g} cores a GPU; this process may use "
                f"{report.num_cpus}",
            ),
        ]
    lost = f"{report.lost_share:.1%} of the items would be lost, {report.max_lost_share:.1%} may be"
    if cost is None:
        lost = f"no sampled item could be read; {lost}"
    rows.append(("ok" if report.is_usable else "fail", "usable", lost))
    return rows
