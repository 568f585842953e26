"""`groundserve compare`: how two files of scored frames, or of answers in text, agree."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._options import AsJson
from groundserve.cli._output import plain_table, print_json, print_note, stdout
from groundserve.errors import InvalidRequestError
from groundserve.records import (
    Agreement,
    AnswerAgreement,
    compare_answer_files,
    compare_files,
    holds_answers,
)

_TOP_K = 32


def command(
    first: Annotated[Path, typer.Argument(help="JSONL of records, or lines of ask --json.")],
    second: Annotated[Path, typer.Argument(help="JSONL to compare it with.")],
    top_k: Annotated[
        int | None,
        typer.Option(help="Frames that count for the overlap.", show_default=str(_TOP_K)),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two JSONL files of scored frames, or of answers in text.

    Of records (doc_id, index): overlap of the top K frames, and Kendall's tau of
    the whole order, paired by doc_id. Of lines that ask --json prints: equal
    texts and tokens, and the time that moments share, paired by video, task and
    question. What has no pair is counted, and named on stderr.

    Example: [bold]groundserve compare ours.jsonl reference.jsonl --top-k 32[/bold]
    """
    agreement: Agreement | AnswerAgreement
    if is_text := holds_answers(first):
        if top_k is not None:
            raise InvalidRequestError(f"--top-k is for files of scored frames, and {first} is none")
        agreement = compare_answer_files(first, second)
    else:
        agreement = compare_files(first, second, top_k=_TOP_K if top_k is None else top_k)
    what, pair = ("answers", "question") if is_text else ("records", "doc_id")
    for path, num_only, num_repeated in (
        (first, agreement.num_only_in_first, agreement.num_repeated_in_first),
        (second, agreement.num_only_in_second, agreement.num_repeated_in_second),
    ):
        if num_only or num_repeated:
            print_note(
                f"{num_only + num_repeated} of "
                f"{agreement.num_questions + num_only + num_repeated} {what} of {path} were not "
                f"compared: {num_only} have no pair, {num_repeated} repeat an earlier {pair}"
            )
    if isinstance(agreement, Agreement) and agreement.num_in_time_order == agreement.num_questions:
        print_note(
            "the frames of every question are in time order in both files, as selected frames "
            "are: Kendall's tau compares no ranking"
        )
    if as_json:
        print_json(asdict(agreement))
        return
    rows = {
        "questions in both": str(agreement.num_questions),
        "only in the first": str(agreement.num_only_in_first),
        "only in the second": str(agreement.num_only_in_second),
        "repeated in the first": str(agreement.num_repeated_in_first),
        "repeated in the second": str(agreement.num_repeated_in_second),
    }
    if isinstance(agreement, Agreement):
        tau = agreement.kendall_tau
        rows[f"overlap@{top_k or _TOP_K}"] = f"{agreement.overlap_at_k:.4f}"
        rows["Kendall tau"] = "-" if tau is None else f"{tau:+.4f}"
    else:
        iou = agreement.time_iou
        rows["equal texts"] = f"{agreement.same_text:.4f}"
        rows["equal tokens"] = f"{agreement.same_tokens:.4f}"
        rows["tokens before the first that differs"] = f"{agreement.shared_start:.4f}"
        rows["IoU of moments"] = "-" if iou is None else f"{iou:.4f}"
    table = plain_table("measure", "value")
    for row in rows.items():
        table.add_row(*row)
    stdout.print(table)
