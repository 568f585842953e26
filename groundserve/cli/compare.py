"""`groundserve compare`: how two files of scored frames agree."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._output import plain_table, print_json, print_note, stdout
from groundserve.records import compare_files

NAME = "compare"


def command(
    first: Annotated[Path, typer.Argument(help="JSONL of records (doc_id, index).")],
    second: Annotated[Path, typer.Argument(help="JSONL to compare it with.")],
    top_k: Annotated[int, typer.Option(help="Frames that count for the overlap.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two JSONL files: overlap of the top K frames, and Kendall's tau of the whole order.

    Records are paired by doc_id; those that have no pair are counted, and named on stderr.

    Example: [bold]groundserve compare ours.jsonl reference.jsonl --top-k 32[/bold]
    """
    agreement = compare_files(first, second, top_k=top_k)
    for path, num_only, num_repeated in (
        (first, agreement.num_only_in_first, agreement.num_repeated_in_first),
        (second, agreement.num_only_in_second, agreement.num_repeated_in_second),
    ):
        if num_only or num_repeated:
            print_note(
                f"{num_only + num_repeated} of "
                f"{agreement.num_questions + num_only + num_repeated} records of {path} were not "
                f"compared: {num_only} have no pair, {num_repeated} repeat an earlier doc_id"
            )
    if as_json:
        print_json(asdict(agreement))
        return
    tau = "-" if agreement.kendall_tau is None else f"{agreement.kendall_tau:+.4f}"
    table = plain_table("measure", "value")
    table.add_row("questions in both", str(agreement.num_questions))
    table.add_row("only in the first", str(agreement.num_only_in_first))
    table.add_row("only in the second", str(agreement.num_only_in_second))
    table.add_row("repeated in the first", str(agreement.num_repeated_in_first))
    table.add_row("repeated in the second", str(agreement.num_repeated_in_second))
    table.add_row(f"overlap@{top_k}", f"{agreement.overlap_at_k:.4f}")
    table.add_row("Kendall tau", tau)
    stdout.print(table)
