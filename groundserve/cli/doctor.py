"""`groundserve doctor`: is this machine ready, and what is in a user's checkpoint?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._output import plain_table, print_json, progress, stdout
from groundserve.cli.doctor_checks import (
    check_checkpoint,
    check_engines,
    check_machine,
    check_records,
)

NAME = "doctor"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    subject: str
    """What was looked at."""
    status: str
    """"ok", "warn" (works, read on) or "fail" (something will not work)."""
    detail: str
    """What was found, and what to do."""


def command(
    checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoint directory or hub id to examine.")
    ] = None,
    vision_tower: Annotated[
        str | None, typer.Option(help="SigLIP directory or hub id to compare its weights with.")
    ] = None,
    engines: Annotated[
        Path | None, typer.Option(help="Engine directory whose GPU memory to add up.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="JSONL of scored frames to examine.")] = None,
    activations: Annotated[
        bool, typer.Option("--activations", help="Run the checkpoint and report their range.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine; with --checkpoint, answer what decides a checkpoint's scores.

    Example: [bold]groundserve doctor --checkpoint ./VideoITG-8B[/bold]
    """
    findings = [Finding(*row) for row in check_machine()]
    if checkpoint is not None:
        with progress("reading the checkpoint"):
            rows = check_checkpoint(checkpoint, vision_tower, activations=activations)
            findings += [Finding(*row) for row in rows]
    if engines is not None:
        findings += [Finding(*row) for row in check_engines(engines)]
    if results is not None:
        findings += [Finding(*row) for row in check_records(results)]
    failed = any(finding.status == "fail" for finding in findings)
    if as_json:
        print_json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    else:
        table = plain_table("", "subject", "found")
        marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}
        for finding in findings:
            table.add_row(marks[finding.status], finding.subject, finding.detail)
        stdout.print(table)
    raise typer.Exit(1 if failed else 0)
