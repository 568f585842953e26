"""`groundserve compare`: how two files of scored frames agree."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._output import plain_table, print_json, stdout
from groundserve.records import compare_records, read_records

NAME = "compare"


def command(
    first: Annotated[Path, typer.Argument(help="JSONL of records (doc_id, index).")],
    second: Annotated[Path, typer.Argument(help="JSONL to compare it with.")],
    top_k: Annotated[int, typer.Option(help="Frames that count for the overlap.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two JSONL files: overlap of the top K frames, and Kendall's tau of the whole order.

    Example: [bold]groundserve compare ours.jsonl reference.jsonl --top-k 32[/bold]
    """
    agreement = compare_records(read_records(first), read_records(second), top_k=top_k)
    if as_json:
        print_json(asdict(agreement))
        return
    tau = "-" if agreement.kendall_tau is None else f"{agreement.kendall_tau:+.4f}"
    table = plain_table("measure", "value")
    table.add_row("questions in both", str(agreement.num_questions))
    table.add_row("only in the first", str(agreement.num_only_in_first))
    table.add_row("only in the second", str(agreement.num_only_in_second))
    table.add_row(f"overlap@{top_k}", f"{agreement.overlap_at_k:.4f}")
    table.add_row("Kendall tau", tau)
    stdout.print(table)
