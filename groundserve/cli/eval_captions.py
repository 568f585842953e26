"""`groundserve eval captions`: events told in text, against those that annotators described."""

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
from groundserve.cli.eval_answers_tables import print_captions
from groundserve.evaluation.activitynet.asking import REFERENCE_NEW_TOKENS
from groundserve.evaluation.activitynet.captions import make_caption_report
from groundserve.evaluation.activitynet.language import JavaLanguage, require_language
from groundserve.evaluation.activitynet.protocols import get_protocol
from groundserve.evaluation.bootstrap import require_seed

NAME = "captions"


@asks_model(max_new_tokens=REFERENCE_NEW_TOKENS)
def command(
    annotations: Annotated[
        Path,
        typer.Option(help="What happens when, as ActivityNet Captions or VTG-LLM has it (JSON)."),
    ],
    answers: Annotated[
        Path,
        typer.Option(
            help="A file of VTimeLLM's or VTG-LLM's evaluation, lines of ask --json, or a batch's "
            "folder. With a model, the log that it adds to."
        ),
    ],
    *,
    model: AskedModel,
    protocol: ProtocolName = DEFAULT_PROTOCOL,
    seed: Annotated[
        int, typer.Option(help="Of the intervals, and of the noise for unmatched events.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score dense captions as a reference's evaluation does: SODA_c, CIDEr, METEOR.

    Needs Java and the extra `captions`. Without a model the file is scored
    as it is; with one, what the file does not answer is asked first, and
    added to it. docs/evaluate.md defines all figures.

    Example: [bold]groundserve eval captions --annotations val_2.json
    --answers log.jsonl[/bold]
    """
    require_seed(seed)
    rules = get_protocol(protocol)
    require_language()
    with progress("reading") as step:
        told, known = collect_answers(annotations, answers, model, task="captioning", step=step)
        with JavaLanguage() as language:
            report = make_caption_report(
                told.captions,
                known,
                language,
                protocol=rules,
                seed=seed,
                on_video=lambda number, total: step(f"comparing video {number} of {total}"),
            )
    if as_json:
        print_json(report.as_dict())
    else:
        print_captions(report, counts_unanswered=rules.counts_unanswered)
