"""Tables of `groundserve eval` and its subcommands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from groundserve.cli._output import cell, plain_table, print_line, stdout
from groundserve.evaluation.bootstrap import Estimate
from groundserve.evaluation.comparison import ComparedGroup, Comparison
from groundserve.evaluation.qa.report import BASE_ARM, ArmReport, MeasuredRun, PaperTable, QaReport
from groundserve.evaluation.report import ControlReport, Report

_ALL = "all"
_COMPARED_LABELS = {
    "frame_ap": "frame AP",
    "shuffled_ap": "shuffled AP",
    "ap_over_shuffled": "AP - shuffled",
    "hit_at_1": "hit@1",
    "absent_auc": "absent AUC",
}
_FIGURE_LABELS = {
    "miou": "mIoU",
    "r1_at_03": "R1@0.3",
    "r1_at_05": "R1@0.5",
    "r1_at_07": "R1@0.7",
    "soda_c": "SODA_c",
    "meteor": "METEOR",
    "cider": "CIDEr",
    "rouge_l": "ROUGE-L",
    "bleu_4": "BLEU-4",
    "precision": "events that meet a true one, tIoU 0.3 to 0.9",
    "recall": "true events met",
    "f1": "F1 of the two",
    "moment_r1_at_05": "moment R1@0.5",
    "moment_r1_at_07": "moment R1@0.7",
    "moment_map": "moment mAP, IoU 0.5 to 0.95",
    "moment_map_at_05": "moment mAP@0.5",
    "moment_map_at_075": "moment mAP@0.75",
    "highlight_map_fair": "highlight mAP, at least fair",
    "highlight_hit_at_1_fair": "highlight HIT@1, at least fair",
    "highlight_map_good": "highlight mAP, at least good",
    "highlight_hit_at_1_good": "highlight HIT@1, at least good",
    "highlight_map_very_good": "highlight mAP, very good",
    "highlight_hit_at_1_very_good": "highlight HIT@1, very good",
}


def print_report(report: Report, control: ControlReport | None) -> None:
    """Print the figures by type: the ranking, the frames kept, the spans."""
    groups = {**report.by_type, _ALL: report.overall}
    groups = {name: group for name, group in groups.items() if group.figures}

    def column(figure: str, *, ends: bool = False) -> list[str]:
        return [shown(group.figures[figure], ends=ends) for group in groups.values()]

    controls = None if control is None else {**control.by_type, _ALL: control.overall}
    ranking = {
        "n": [str(group.num_present) for group in groups.values()],
        "base rate": column("base_rate"),
        "frame AP": column("frame_ap", ends=True),
        "shuffled AP": [
            "-" if controls is None else shown(controls[name].shuffled_ap) for name in groups
        ],
    }
    selection = {
        f"recall@{report.top_k}": column("recall_at_k", ends=True),
        **{kind: column(f"{kind}_recall") for kind in ("uniform", "random", "possible")},
        "hit@1": column("hit_at_1"),
    }
    spans = {f"R1@0.{at}": column(f"r1_at_0{at}") for at in (3, 5, 7)}
    for columns in (ranking, selection, {**spans, "mIoU": column("miou", ends=True)}):
        if columns is not ranking:
            stdout.print()
        table = plain_table("type", *columns)
        for name, *cells in zip(groups, *columns.values(), strict=True):
            table.add_row(*map(cell, (name, *cells)), style="bold" if name == _ALL else None)
        stdout.print(table)
    overall = report.overall
    if overall.absent_auc is not None:
        stdout.print()
        print_line(
            f"present against absent questions: AUC {shown(overall.absent_auc)} "
            f"({overall.num_present} present, {overall.num_absent} absent)"
        )
    if control is not None and control.num_same_text:
        print_line(f"{control.num_same_text} shuffled questions read the same as the own one")


def print_figures(figures: Mapping[str, Estimate], *, with_counts: bool = False) -> None:
    """Print figures that have a label as percentages, as the references do."""
    table = plain_table("measure", "percent, 95% interval")
    for name, label in _FIGURE_LABELS.items():
        if name in figures:
            table.add_row(label, cell(shown(figures[name], scale=100, digits=2)))
    stdout.print(table)
    if with_counts:
        estimate = next(iter(figures.values()))
        print_line(f"{estimate.num_questions} answers, {estimate.num_videos} videos")


def print_downstream(downstream: Mapping[str, Any]) -> None:
    """Print how often the answerer was right."""
    table = plain_table("answered from", "right", "")
    rows = {name.replace("_", " "): it for name, it in downstream["accuracy"].items()}
    gain = {"selected - uniform": downstream["gain_over_uniform"]}
    for name, estimate in (rows | gain).items():
        low, high = estimate["low"], estimate["high"]
        ends = "" if low is None else f"[{low:.3f}, {high:.3f}]"
        sign = "+" if name in gain else ""
        table.add_row(*map(cell, (name, f"{estimate['value']:{sign}.3f}", ends)))
    stdout.print()
    print_line(
        f"downstream: {downstream['num_questions']} questions answered from "
        f"{downstream['num_selected']} frames"
    )
    stdout.print(table)


def print_comparison(comparison: Comparison, *, baseline: str) -> None:
    """Print each figure of both models and their difference, by type, and what follows."""
    labels = {"recall_at_k": f"recall@{comparison.top_k}", **_FIGURE_LABELS, **_COMPARED_LABELS}
    groups = {**comparison.by_type, _ALL: comparison.overall}
    for name, group in groups.items():
        if group.figures:
            stdout.print()
            print_line(f"{name}: {group.num_present} present, {group.num_absent} absent questions")
            stdout.print(_compared(group, labels))
    stdout.print()
    told: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
    for name, figure in comparison.overall.figures.items():
        if figure.verdict is not None:
            told[figure.verdict].append(labels[name])
    said = "; ".join(f"{verdict}: {', '.join(names) or 'none'}" for verdict, names in told.items())
    print_line(f"against {baseline}, {comparison.num_paired} questions of any type: {said}")
    if comparison.num_unpaired:
        print_line(f"{comparison.num_unpaired} questions were answered by one of the two only")


def print_qa_report(parts: Mapping[str, Any], report: QaReport) -> None:
    """Print each arm's accuracy, by group too, the differences, and what it took."""
    print_line(f"{parts['name']}, {parts['model']}, at most {parts['top_k']} frames; percent right")
    groups = sorted({group for it in report.arms.values() for group in it.by_group}, key=_place)
    table = plain_table("answered from", "frames", "n", "all", *groups)
    if report.chance is not None:
        table.add_row("chance", "-", str(report.num_questions), f"{100 * report.chance:.1f}")
    for arm, it in report.arms.items():
        estimates = (it.accuracy, *map(it.by_group.get, groups))
        cells = [cell(shown(one, scale=100, digits=1)) for one in estimates]
        table.add_row(arm, f"{it.num_frames:.1f}", str(it.accuracy.num_questions), *cells)
    for arm, difference in report.differences.items():
        estimates = (difference, *map(report.differences_by_group[arm].get, groups))
        cells = [cell(_difference(one)) for one in estimates]
        table.add_row(f"{arm} - {BASE_ARM}", "", str(difference.num_questions), *cells)
    stdout.print(table)
    for arm, it in report.arms.items():
        print_line(f"{arm}: {_said(it)}")


def print_paper_table(table: PaperTable, runs: Sequence[MeasuredRun]) -> None:
    """Print the rows, then each run's differences."""
    drawn = plain_table("model", "frames", *table.columns, "average")
    for row in table.rows:
        values = (*map(row.cells.get, table.columns), row.average)
        percents = ("-" if value is None else f"{100 * value:.1f}" for value in values)
        drawn.add_row(cell(row.model), f"{row.top_k} {row.arm}", *percents)
    stdout.print(drawn)
    for run in runs:
        for arm, difference in run.report.differences.items():
            print_line(
                f"{run.parts['name']}, {run.parts['model']}: {arm} - {BASE_ARM} "
                f"{_difference(difference)} ({difference.num_questions} questions, "
                f"{difference.num_videos} videos)"
            )


def shown(
    estimate: Estimate | None,
    *,
    scale: float = 1,
    digits: int = 3,
    sign: str = "",
    ends: bool = True,
) -> str:
    """Return "0.812 [0.790, 0.834]", the value alone where there are no ends, "-" for None."""
    if estimate is None:
        return "-"
    value = f"{scale * estimate.value:{sign}.{digits}f}"
    if estimate.low is None or estimate.high is None or not ends:
        return value
    low, high = (f"{scale * end:{sign}.{digits}f}" for end in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _difference(estimate: Estimate | None) -> str:
    return shown(estimate, scale=100, digits=1, sign="+")


def _compared(group: ComparedGroup, labels: Mapping[str, str]) -> Table:
    table = plain_table("figure", "floor", "baseline", "new", "new - baseline", "")
    for name, figure in group.figures.items():
        floor = "-" if figure.floor is None else f"{figure.floor:.3f}"
        both = (shown(one, ends=False) for one in (figure.baseline, figure.new))
        cells = (labels[name], floor, *both, shown(figure.difference, sign="+"))
        table.add_row(*map(cell, cells), figure.verdict or "")
    return table


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
