"""Tables of what is told in text: percentages, as the references print them."""

from __future__ import annotations

from collections.abc import Mapping

from rich.markup import escape

from groundserve.cli._output import plain_table, print_note, stdout
from groundserve.cli.eval_tables import HIGHLIGHT_LABELS, interval
from groundserve.evaluation.activitynet.captions import CaptionReport
from groundserve.evaluation.activitynet.moments import GroundingReport
from groundserve.evaluation.bootstrap import Estimate
from groundserve.evaluation.highlights import HighlightReport

_GROUNDING_LABELS = {
    "miou": "mIoU",
    "r1_at_03": "R1@0.3",
    "r1_at_05": "R1@0.5",
    "r1_at_07": "R1@0.7",
}
_CAPTION_LABELS = {
    "soda_c": "SODA_c",
    "meteor": "METEOR",
    "cider": "CIDEr",
    "rouge_l": "ROUGE-L",
    "bleu_4": "BLEU-4",
    "precision": "events that meet a true one, tIoU 0.3 to 0.9",
    "recall": "true events met",
    "f1": "F1 of the two",
}


def print_groundings(report: GroundingReport) -> None:
    """Print R1@m and mIoU, and on stderr what is to be known of them."""
    if report.num_unread:
        print_note(f"answers without times that can be read, which are misses: {report.num_unread}")
    if report.num_restated:
        print_note(
            "lines that state another IoU than the one measured here, so were made with other "
            f"annotations: {report.num_restated}"
        )
    _print_table(report.figures, _GROUNDING_LABELS)


def print_captions(report: CaptionReport, *, counts_unanswered: bool = False) -> None:
    """Print the main figures of captions, and on stderr what is to be known of them."""
    if counts_unanswered and report.num_unanswered:
        print_note(f"annotated videos without an answer, which count 0: {report.num_unanswered}")
    if report.num_unread:
        print_note(f"videos without an answer that can be read, which count 0: {report.num_unread}")
    _print_table(report.figures, _CAPTION_LABELS)


def print_highlights(report: HighlightReport) -> None:
    """Print mAP and HIT@1 of clips, and on stderr what is to be known of them."""
    if report.num_unread:
        print_note(
            "answers without times and scores that can be read, whose clips all score 0: "
            f"{report.num_unread}"
        )
    if report.num_unanswered:
        print_note(f"queries without an answer, which do not count: {report.num_unanswered}")
    if report.num_strangers:
        print_note(
            f"answers to queries that the ground truth lacks, left out: {report.num_strangers}"
        )
    _print_table(report.figures, HIGHLIGHT_LABELS)


def _print_table(figures: Mapping[str, Estimate], labels: Mapping[str, str]) -> None:
    table = plain_table("measure", "percent, 95% interval")
    for name, label in labels.items():
        table.add_row(label, escape(interval(figures[name], scale=100, digits=2)))
    stdout.print(table)
    estimate = next(iter(figures.values()))
    stdout.print(f"{estimate.num_questions} answers, {estimate.num_videos} videos", highlight=False)
