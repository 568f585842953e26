"""`groundserve eval moments`: windows and highlights that any model predicted, as QVHighlights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._output import print_json, progress
from groundserve.cli.eval_tables import print_moments
from groundserve.evaluation.bootstrap import require_seed
from groundserve.evaluation.qvhighlights import make_moment_report
from groundserve.evaluation.qvhighlights_files import read_ground_truth, read_predictions

NAME = "moments"


def command(
    predictions: Annotated[
        Path, typer.Option(help="Predictions in QVHighlights format (JSONL), of any model.")
    ],
    ground_truth: Annotated[Path, typer.Option(help="Ground truth in the same format.")],
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score predictions as the QVHighlights benchmark does; needs no model.

    Example: [bold]groundserve eval moments --predictions pred.jsonl
    --ground-truth gt.jsonl[/bold]
    """
    compare_files(predictions, ground_truth, seed=seed, as_json=as_json)


def compare_files(predictions: Path, ground_truth: Path, *, seed: int, as_json: bool) -> None:
    """Read both files and print every figure that they give."""
    require_seed(seed)
    with progress("comparing"):
        report = make_moment_report(
            read_predictions(predictions), read_ground_truth(ground_truth), seed=seed
        )
    if as_json:
        print_json(report.as_dict())
    else:
        print_moments(report)
