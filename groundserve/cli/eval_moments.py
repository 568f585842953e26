"""`groundserve eval moments`: moments that any model predicted or told, against the true ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._output import print_json, progress
from groundserve.cli.eval_answers import (
    DEFAULT_PROTOCOL,
    AskedModel,
    ProtocolName,
    asks_model,
    collect_answers,
)
from groundserve.cli.eval_answers_tables import print_groundings
from groundserve.cli.eval_tables import print_moments
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.activitynet.asking import REFERENCE_NEW_TOKENS
from groundserve.evaluation.activitynet.moments import make_grounding_report
from groundserve.evaluation.activitynet.protocols import get_protocol
from groundserve.evaluation.bootstrap import require_seed
from groundserve.evaluation.qvhighlights import make_moment_report
from groundserve.evaluation.qvhighlights_files import read_ground_truth, read_predictions

NAME = "moments"


@asks_model(max_new_tokens=REFERENCE_NEW_TOKENS)
def command(
    predictions: Annotated[
        Path | None, typer.Option(help="Predictions in QVHighlights format (JSONL), of any model.")
    ] = None,
    ground_truth: Annotated[
        Path | None, typer.Option(help="Ground truth in the same format.")
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(help="What happens when, as ActivityNet Captions or VTG-LLM has it (JSON)."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="For --annotations: a file of VTimeLLM's or VTG-LLM's evaluation, lines of "
            "ask --json, or a batch's folder. With a model, the log that it adds to."
        ),
    ] = None,
    *,
    model: AskedModel,
    protocol: ProtocolName = DEFAULT_PROTOCOL,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score predicted moments, as QVHighlights or as a reference's evaluation does.

    --predictions and --ground-truth are QVHighlights files. --annotations
    and --answers are scored by R1@m and mIoU of moments told in text; with
    a model, what the file does not answer is asked first, and added to it.

    Example: [bold]groundserve eval moments --predictions pred.jsonl
    --ground-truth gt.jsonl[/bold]

    Example: [bold]groundserve eval moments --annotations val_2.json
    --answers log.jsonl[/bold]
    """
    if annotations is None and answers is None:
        model.refuse("goes with --annotations and --answers")
        if protocol != DEFAULT_PROTOCOL:
            raise InvalidRequestError("--protocol goes with --annotations and --answers")
        if predictions is None or ground_truth is None:
            raise InvalidRequestError(
                "give --predictions and --ground-truth (QVHighlights), or --annotations and "
                "--answers (moments told in text)"
            )
        compare_files(predictions, ground_truth, seed=seed, as_json=as_json)
        return
    if predictions is not None or ground_truth is not None:
        raise InvalidRequestError(
            "--predictions and --ground-truth do not go with --annotations and --answers"
        )
    if annotations is None or answers is None:
        raise InvalidRequestError("--annotations and --answers go together")
    require_seed(seed)
    rules = get_protocol(protocol)
    with progress("reading") as step:
        told, known = collect_answers(annotations, answers, model, task="grounding", step=step)
        step("comparing")
        report = make_grounding_report(told.groundings, known, protocol=rules, seed=seed)
    if as_json:
        print_json(report.as_dict())
    else:
        print_groundings(report)


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
