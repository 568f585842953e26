"""Several runs in the paper's layout: rows of model and frames, columns of benchmarks.

Video-MME has a column for each of its durations, and the average is over columns, as in the table
of VideoITG (arXiv 2507.13353).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.arms import Arm
from groundserve.evaluation.qa.question import BENCHMARKS, Layout
from groundserve.evaluation.qa.report import ARMS, QaReport

_ORDER: tuple[Layout, ...] = ("longvideobench", "mlvu", "videomme", "cgbench")


@dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """A run and its figures."""

    parts: dict[str, Any]
    report: QaReport


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One model with one choice of frames."""

    model: str
    arm: Arm
    top_k: int
    """Most frames shown."""
    cells: dict[str, float]
    """Accuracy by column; a column that was not measured is missing."""
    average: float | None
    """Over all columns; None where one is missing."""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """All rows, each with the cells that it has."""

    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]


def make_paper_table(runs: Sequence[MeasuredRun]) -> PaperTable:
    """Join runs of several benchmarks, models and numbers of frames."""
    ordered = sorted(runs, key=lambda run: _ORDER.index(run.parts["layout"]))
    cells: dict[tuple[str, int, Arm], dict[str, float]] = {}
    columns: dict[str, None] = {}
    for run in ordered:
        for arm in ARMS:
            found = columns_of(run, arm)
            columns |= dict.fromkeys(found)
            row = (run.parts["model"], run.parts["top_k"], arm)
            for name, value in found.items():
                if name in cells.setdefault(row, {}):
                    raise InvalidRequestError(
                        f"two runs have {name} of {row[0]} from {row[1]} {arm} frames; leave one "
                        "out, or give the sets names of their own (--set-name)"
                    )
                cells[row][name] = value
    rows = [
        PaperRow(
            model=model,
            arm=arm,
            top_k=top_k,
            cells=found,
            average=sum(found.values()) / len(columns) if len(found) == len(columns) else None,
        )
        for (model, top_k, arm), found in sorted(cells.items(), key=_row_place)
    ]
    return PaperTable(columns=tuple(columns), rows=tuple(rows))


def columns_of(run: MeasuredRun, arm: Arm) -> dict[str, float]:
    """Return an arm's accuracies by column of the paper; none where it has no answer."""
    report = run.report.arms.get(arm)
    if report is None:
        return {}
    name = run.parts["name"]
    groups = BENCHMARKS[run.parts["layout"]].groups
    if not groups:
        return {name: report.accuracy.value}
    return {
        f"{name} {group}": report.by_group[group].value
        for group in groups
        if group in report.by_group
    }


def _row_place(item: tuple[tuple[str, int, Arm], Any]) -> tuple[str, int, int]:
    (model, top_k, arm), _ = item
    return model, top_k, ARMS.index(arm)
