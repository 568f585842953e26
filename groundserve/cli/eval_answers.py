"""`groundserve eval moments`, `captions` and `highlights`: answers of any model against truths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from groundserve.cli._options import AsJson, Seed, grouped
from groundserve.cli._output import print_json, print_note, progress
from groundserve.cli.eval_asked import AskedModel, ReferenceModel
from groundserve.cli.eval_drawn import ask_drawn
from groundserve.cli.eval_tables import print_figures
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.activitynet.annotations import Annotation, read_annotations
from groundserve.evaluation.activitynet.answer_log import annotated_questions, read_answers
from groundserve.evaluation.activitynet.answers import Answers, LogTask
from groundserve.evaluation.activitynet.captions import make_caption_report
from groundserve.evaluation.activitynet.language import JavaLanguage, require_language
from groundserve.evaluation.activitynet.moments import (
    PROTOCOLS,
    get_protocol,
    make_grounding_report,
)
from groundserve.evaluation.bootstrap import require_seed
from groundserve.evaluation.highlights import (
    highlight_questions,
    make_highlight_report,
    ratings_of,
    read_highlight_answers,
)
from groundserve.evaluation.qvhighlights import (
    make_moment_report,
    read_ground_truth,
    read_predictions,
)

ProtocolName: TypeAlias = Annotated[
    str,
    typer.Option("--protocol", help=f"Whose definitions of the figures: {', '.join(PROTOCOLS)}."),
]
_DEFAULT_PROTOCOL = "vtimellm"
_NUM_DRAWN = 100


@grouped
def moments(
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
    given: ReferenceModel,
    protocol: ProtocolName = _DEFAULT_PROTOCOL,
    num_videos: Annotated[
        int | None,
        typer.Option(help="Videos to draw where no file is given.", show_default="100"),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the intervals; without files, of the drawn videos as well.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Score predicted moments, as QVHighlights or as a reference's evaluation does.

    Without files, draws MovingDigits test videos that no checkpoint was
    trained on, asks a model when things happen in them, and says what
    answers without looking would reach; without --checkpoint, --engines or
    --server it asks the small one that comes with groundserve.

    --predictions and --ground-truth are QVHighlights files. --annotations
    and --answers are scored by R1@m and mIoU of moments told in text; with
    a model, what the file does not answer is asked first, and added to it.

    Example: [bold]groundserve eval moments --predictions pred.jsonl
    --ground-truth gt.jsonl[/bold]

    Example: [bold]groundserve eval moments --annotations val_2.json
    --answers log.jsonl[/bold]
    """
    files = (predictions, ground_truth, annotations, answers)
    if all(file is None for file in files):
        _ask_drawn(given, protocol, num_videos=num_videos, seed=seed, as_json=as_json)
        return
    if num_videos is not None:
        raise InvalidRequestError("--num-videos goes without files: it says how many to draw")
    if annotations is None and answers is None:
        given.refuse("goes with --annotations and --answers")
        if protocol != _DEFAULT_PROTOCOL:
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
    _score_log(annotations, answers, given, protocol, seed=seed, as_json=as_json)


def _score_log(
    annotations: Path,
    answers: Path,
    given: ReferenceModel,
    protocol: str,
    *,
    seed: int,
    as_json: bool,
) -> None:
    require_seed(seed)
    rules = get_protocol(protocol)
    with progress("reading") as step:
        told, known = _collect(annotations, answers, given, task="grounding", step=step)
        step("comparing")
        report = make_grounding_report(told.groundings, known, protocol=rules, seed=seed)
    counts = {
        "answers without times that can be read, which are misses": report.num_unread,
        "lines that state another IoU than the one measured here, so were made with other "
        "annotations": report.num_restated,
    }
    _print_report(report, counts, as_json=as_json)


def _ask_drawn(
    given: ReferenceModel, protocol: str, *, num_videos: int | None, seed: int, as_json: bool
) -> None:
    if protocol != _DEFAULT_PROTOCOL or given.media_root is not None:
        raise InvalidRequestError("--protocol and --media-root go with --annotations and --answers")
    count = _NUM_DRAWN if num_videos is None else num_videos
    ask_drawn(given, num_videos=count, seed=seed, as_json=as_json)


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
        print_figures(report.figures)


@grouped
def captions(
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
    given: ReferenceModel,
    protocol: ProtocolName = _DEFAULT_PROTOCOL,
    seed: Annotated[
        int, typer.Option(help="Of the intervals, and of the noise for unmatched events.")
    ] = 0,
    as_json: AsJson = False,
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
        told, known = _collect(annotations, answers, given, task="captioning", step=step)
        with JavaLanguage() as language:
            report = make_caption_report(
                told.captions,
                known,
                language,
                protocol=rules,
                seed=seed,
                on_video=lambda number, total: step(f"comparing video {number} of {total}"),
            )
    num_unanswered = report.num_unanswered if rules.counts_unanswered else 0
    counts = {
        "annotated videos without an answer, which count 0": num_unanswered,
        "videos without an answer that can be read, which count 0": report.num_unread,
    }
    _print_report(report, counts, as_json=as_json)


@grouped
def highlights(
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
    given: AskedModel,
    seed: Seed = 0,
    as_json: AsJson = False,
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
        given.ask(answers, highlight_questions(truths), step=step)
        told, num_unread = read_highlight_answers(answers, truths)
        step("comparing")
        report = make_highlight_report(told, truths, num_unread=num_unread, seed=seed)
    counts = {
        "answers without times and scores that can be read, whose clips all score 0": (
            report.num_unread
        ),
        "queries without an answer, which do not count": report.num_unanswered,
        "answers to queries that the ground truth lacks, left out": report.num_strangers,
    }
    _print_report(report, counts, as_json=as_json)


def _collect(
    annotations: Path,
    answers: Path,
    model: AskedModel,
    *,
    task: LogTask,
    step: Callable[[str], None],
) -> tuple[Answers, dict[str, Annotation]]:
    """Read the annotations, ask the model where one is named, and read all answers."""
    known = read_annotations(annotations)
    model.ask(answers, annotated_questions(known, task=task), step=step)
    return read_answers(answers, known, task=task), known


def _print_report(report: Any, counts: Mapping[str, int], *, as_json: bool) -> None:
    """Print a report as JSON, or its figures as a table, and on stderr what counts otherwise."""
    if as_json:
        print_json(report.as_dict())
        return
    for what, count in counts.items():
        if count:
            print_note(f"{what}: {count}")
    print_figures(report.figures, with_counts=True)
