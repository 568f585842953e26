"""Tables of `groundserve eval qa` and `qa-table`, in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groundserve.cli._output import cell, plain_table, print_line, stdout
from groundserve.cli.eval_tables import interval
from groundserve.evaluation.bootstrap import Estimate
from groundserve.evaluation.qa.report import BASE_ARM, ArmReport, MeasuredRun, PaperTable, QaReport


def print_qa_report(parts: Mapping[str, Any], report: QaReport) -> None:
    """Print each arm's accuracy, by group too, the differences, and what it took."""
    print_line(f"{parts['name']}, {parts['model']}, at most {parts['top_k']} frames; percent right")
    groups = sorted({group for it in report.arms.values() for group in it.by_group}, key=_place)
    table = plain_table("answered from", "frames", "n", "all", *groups)
    if report.chance is not None:
        table.add_row("chance", "-", str(report.num_questions), f"{100 * report.chance:.1f}")
    for arm, it in report.arms.items():
        cells = [_cell(it.accuracy), *(_cell(it.by_group.get(group)) for group in groups)]
        table.add_row(
            arm, f"{it.num_frames:.1f}", str(it.accuracy.num_questions), *map(cell, cells)
        )
    for arm, difference in report.differences.items():
        by_group = report.differences_by_group[arm]
        cells = [_signed(difference), *(_signed(by_group.get(group)) for group in groups)]
        table.add_row(f"{arm} - {BASE_ARM}", "", str(difference.num_questions), *map(cell, cells))
    stdout.print(table)
    for arm, it in report.arms.items():
        print_line(f"{arm}: {_said(it)}")


def print_paper_table(table: PaperTable, runs: Sequence[MeasuredRun]) -> None:
    """Print the rows, then each run's differences."""
    drawn = plain_table("model", "frames", *table.columns, "average")
    for row in table.rows:
        values = [row.cells.get(column) for column in table.columns]
        drawn.add_row(
            cell(row.model), f"{row.top_k} {row.arm}", *map(_percent, (*values, row.average))
        )
    stdout.print(drawn)
    for run in runs:
        for arm, difference in run.report.differences.items():
            print_line(
                f"{run.parts['name']}, {run.parts['model']}: {arm} - {BASE_ARM} "
                f"{_signed(difference)} ({difference.num_questions} questions, "
                f"{difference.num_videos} videos)"
            )


def _said(arm: ArmReport) -> str:
    tokens = "tokens unknown"
    if arm.prompt_tokens is not None and arm.completion_tokens is not None:
        tokens = f"{arm.prompt_tokens} + {arm.completion_tokens} tokens"
    cost = "" if arm.cost is None else f", cost {arm.cost:.4f}"
    retries = ", ".join(f"{count} {kind}" for kind, count in sorted(arm.retries.items()))
    return (
        f"{arm.num_refused} refused, {arm.num_without_letter} without a letter, "
        f"{arm.num_unanswered} unanswered, {tokens}{cost}, retries: {retries or 'none'}"
    )


def _place(group: str) -> tuple[float, str]:
    """Sort durations as they grow, in words or in seconds; other groups by name."""
    words = ("short", "medium", "long")
    if group in words:
        return words.index(group), ""
    return (float(group), "") if group.isdecimal() else (float("inf"), group)


def _cell(estimate: Estimate | None) -> str:
    return "-" if estimate is None else interval(estimate, scale=100, digits=1)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _signed(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    value = f"{100 * estimate.value:+.1f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"
