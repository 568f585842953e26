"""`groundserve eval qa-table`: several runs of `eval qa` in the paper's layout."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._output import print_json, print_note
from groundserve.cli.eval_qa_tables import print_paper_table
from groundserve.evaluation.bootstrap import require_seed
from groundserve.evaluation.qa.paper_table import MeasuredRun, make_paper_table
from groundserve.evaluation.qa.report import make_qa_report
from groundserve.evaluation.qa.run_files import read_run

NAME = "qa-table"


def command(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `eval qa` wrote.")],
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put runs of several benchmarks and models into one table; asks nothing.

    Example: [bold]groundserve eval qa-table qa-longvideobench qa-mlvu qa-videomme
    qa-cgbench[/bold]
    """
    require_seed(seed)
    measured = []
    for folder in runs:
        run = read_run(folder)
        report = make_qa_report(
            run.questions,
            run.answers,
            arms=run.parts["arms"],
            seed=seed,
        )
        if report.num_left:
            print_note(f"{folder}: {report.num_left} answers are missing and count nowhere")
        measured.append(MeasuredRun(parts=run.parts, report=report))
    table = make_paper_table(measured)
    if as_json:
        print_json(
            {
                "table": asdict(table),
                "runs": [{"run": it.parts, "report": it.report.as_dict()} for it in measured],
            }
        )
    else:
        print_paper_table(table, measured)
