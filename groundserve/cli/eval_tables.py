"""Tables of `groundserve eval`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from groundserve.cli._output import plain_table, stdout
from groundserve.evaluation.bootstrap import Estimate
from groundserve.evaluation.comparison import ComparedFigure, ComparedGroup, Comparison
from groundserve.evaluation.report import ControlReport, GroupReport, Report

_ALL = "all"
_COMPARED_LABELS = {
    "frame_ap": "frame AP",
    "shuffled_ap": "shuffled AP",
    "ap_over_shuffled": "AP - shuffled",
    "hit_at_1": "hit@1",
    "r1_at_03": "R1@0.3",
    "r1_at_05": "R1@0.5",
    "r1_at_07": "R1@0.7",
    "miou": "mIoU",
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
    shown = {name: group for name, group in groups.items() if group.figures}
    stdout.print(_ranking(shown, control))
    stdout.print()
    stdout.print(_selection(shown, report.top_k))
    stdout.print()
    stdout.print(_spans(shown))
    overall = report.overall
    if overall.absent_auc is not None:
        stdout.print()
        _print_line(
            f"present against absent questions: AUC {interval(overall.absent_auc)} "
            f"({overall.num_present} present, {overall.num_absent} absent)"
        )
    if control is not None and control.num_same_text:
        _print_line(f"{control.num_same_text} shuffled questions read the same as the own one")


def print_figures(figures: Mapping[str, Estimate], *, with_counts: bool = False) -> None:
    """Print figures that have a label as percentages, as the references do.

    Args:
        figures: By name, at least one.
        with_counts: Whether to say how many answers and videos they are made of.
    """
    table = plain_table("measure", "percent, 95% interval")
    for name, label in _FIGURE_LABELS.items():
        if name in figures:
            table.add_row(label, escape(interval(figures[name], scale=100, digits=2)))
    stdout.print(table)
    if with_counts:
        estimate = next(iter(figures.values()))
        _print_line(f"{estimate.num_questions} answers, {estimate.num_videos} videos")


def print_downstream(downstream: Mapping[str, Any]) -> None:
    """Print how often the answerer was right."""
    accuracy = downstream["accuracy"]
    table = plain_table("answered from", "right", "")
    for name, estimate in accuracy.items():
        table.add_row(_words(name), f"{estimate['value']:.3f}", _ends(estimate))
    gain = downstream["gain_over_uniform"]
    table.add_row("selected - uniform", f"{gain['value']:+.3f}", _ends(gain))
    stdout.print()
    _print_line(
        f"downstream: {downstream['num_questions']} questions answered from "
        f"{downstream['num_selected']} frames"
    )
    stdout.print(table)


def print_comparison(comparison: Comparison, *, baseline: str) -> None:
    """Print each figure of both models and their difference, by type, and what follows."""
    labels = {"recall_at_k": f"recall@{comparison.top_k}", **_COMPARED_LABELS}
    groups = {**comparison.by_type, _ALL: comparison.overall}
    for name, group in groups.items():
        if group.figures:
            stdout.print()
            _print_line(f"{name}: {group.num_present} present, {group.num_absent} absent questions")
            stdout.print(_compared(group, labels))
    stdout.print()
    told: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
    for name, figure in comparison.overall.figures.items():
        if figure.verdict is not None:
            told[figure.verdict].append(labels[name])
    said = "; ".join(f"{verdict}: {', '.join(names) or 'none'}" for verdict, names in told.items())
    _print_line(f"against {baseline}, {comparison.num_paired} questions of any type: {said}")
    if comparison.num_unpaired:
        _print_line(f"{comparison.num_unpaired} questions were answered by one of the two only")


def interval(estimate: Estimate, *, scale: float = 1, digits: int = 3) -> str:
    """Return "0.812 [0.790, 0.834]", or the value alone where there is no interval."""
    value = f"{scale * estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{scale * estimate.low:.{digits}f}, {scale * estimate.high:.{digits}f}]"


def _compared(group: ComparedGroup, labels: Mapping[str, str]) -> Any:
    table = plain_table("figure", "floor", "baseline", "new", "new - baseline", "")
    for name, figure in group.figures.items():
        table.add_row(labels[name], *map(escape, _compared_cells(figure)))
    return table


def _compared_cells(figure: ComparedFigure) -> tuple[str, ...]:
    difference = figure.difference
    ends = ""
    if difference.low is not None and difference.high is not None:
        ends = f" [{difference.low:+.3f}, {difference.high:+.3f}]"
    return (
        "-" if figure.floor is None else f"{figure.floor:.3f}",
        _value(figure.baseline),
        _value(figure.new),
        f"{difference.value:+.3f}{ends}",
        figure.verdict or "",
    )


def _ranking(groups: Mapping[str, GroupReport], control: ControlReport | None) -> Any:
    table = plain_table("type", "n", "base rate", "frame AP", "shuffled AP")
    for name, group in groups.items():
        figures = group.figures
        shuffled = "-"
        if control is not None:
            found = control.overall if name == _ALL else control.by_type[name]
            shuffled = interval(found.shuffled_ap)
        _add(
            table,
            name,
            str(group.num_present),
            _value(figures["base_rate"]),
            interval(figures["frame_ap"]),
            shuffled,
        )
    return table


def _selection(groups: Mapping[str, GroupReport], top_k: int) -> Any:
    table = plain_table("type", f"recall@{top_k}", "uniform", "random", "possible", "hit@1")
    for name, group in groups.items():
        figures = group.figures
        _add(
            table,
            name,
            interval(figures["recall_at_k"]),
            *(_value(figures[f"{kind}_recall"]) for kind in ("uniform", "random", "possible")),
            _value(figures["hit_at_1"]),
        )
    return table


def _spans(groups: Mapping[str, GroupReport]) -> Any:
    table = plain_table("type", "R1@0.3", "R1@0.5", "R1@0.7", "mIoU")
    for name, group in groups.items():
        figures = group.figures
        _add(
            table,
            name,
            *(_value(figures[f"r1_at_{at}"]) for at in ("03", "05", "07")),
            interval(figures["miou"]),
        )
    return table


def _add(table: Any, name: str, *cells: str) -> None:
    table.add_row(escape(name), *map(escape, cells), style="bold" if name == _ALL else None)


def _value(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}"


def _ends(estimate: Mapping[str, Any]) -> str:
    if estimate["low"] is None:
        return ""
    return escape(f"[{estimate['low']:.3f}, {estimate['high']:.3f}]")


def _words(name: str) -> str:
    return escape(name.replace("_", " "))


def _print_line(text: str) -> None:
    stdout.print(escape(text), highlight=False, soft_wrap=True)
