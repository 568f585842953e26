"""`groundserve eval highlights`: highlights told in text, against those that annotators rated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._checks import check_outputs
from groundserve.cli._output import print_json, progress
from groundserve.cli.eval_answers import (
    AskedModel,
    asks_model,
    find_asked_videos,
)
from groundserve.cli.eval_answers_tables import print_highlights
from groundserve.evaluation.bootstrap import require_seed
from groundserve.evaluation.highlight_answers import read_highlight_answers
from groundserve.evaluation.highlight_asking import ask_highlights, find_answered_queries
from groundserve.evaluation.highlights import make_highlight_report, ratings_of
from groundserve.evaluation.qvhighlights_files import GroundTruth, QueryId, read_ground_truth
from groundserve.options import DEFAULT_NEW_TOKENS

NAME = "highlights"


@asks_model(max_new_tokens=DEFAULT_NEW_TOKENS)
def command(
    ground_truth: Annotated[
        Path, typer.Option(help="Ratings of clips in QVHighlights format (JSONL).")
    ],
    answers: Annotated[
        Path,
        typer.Option(
            help="VTG-LLM's answers, predictions in QVHighlights format, lines of ask --json, or a "
            "batch's folder. With a model, the file that it adds to."
        ),
    ],
    *,
    model: AskedModel,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score highlights told in text as QVHighlights does: mAP and HIT@1 of clips.

    Without a model the file is scored as it is; with one, what the file
    does not answer is asked first, and added to it. docs/evaluate.md
    defines all figures.

    Example: [bold]groundserve eval highlights --ground-truth
    highlight_val_release.jsonl --answers qvhighlights_val_f96_result.json[/bold]
    """
    require_seed(seed)
    with progress("reading") as step:
        truths = read_ground_truth(ground_truth)
        for query in truths:
            ratings_of(query, truths)
        if model.name is None:
            model.refuse_without_name()
        else:
            _ask(truths, answers, model, model.name, step=step)
        told = read_highlight_answers(answers, truths)
        step("comparing")
        report = make_highlight_report(
            told.clip_scores, truths, num_unread=told.num_unread, seed=seed
        )
    if as_json:
        print_json(report.as_dict())
    else:
        print_highlights(report)


def _ask(
    truths: Mapping[QueryId, GroundTruth],
    path: Path,
    model: AskedModel,
    name: str,
    *,
    step: Callable[[str], None],
) -> None:
    check_outputs({"--answers": path})
    media_root = model.check("highlights")
    find_answered_queries(path, model=name)
    videos = find_asked_videos({truth.video for truth in truths.values()}, media_root)
    step("loading")
    with model.open() as answerer:
        ask_highlights(
            answerer,
            truths,
            videos,
            path,
            model=name,
            max_new_tokens=model.max_new_tokens,
            on_video=lambda number, total: step(f"asking about video {number} of {total}"),
        )
