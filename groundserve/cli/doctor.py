"""`groundserve doctor`: is this machine ready, and what is in a user's checkpoint?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from groundserve import extras
from groundserve.cli._checks import check_input, parse_parts
from groundserve.cli._options import AsJson, FamilyName, PartValues
from groundserve.cli._output import cell, plain_table, print_json, progress, stdout
from groundserve.cli.doctor_checks import check_engines, check_machine, check_records
from groundserve.engines.manifest import Manifest
from groundserve.errors import InvalidRequestError
from groundserve.scoring.checkpoint_family import checkpoint_family

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def command(
    checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoint directory, hub id, or digits, to examine.")
    ] = None,
    vision_tower: Annotated[
        str | None,
        typer.Option(help="Vision tower's directory or hub id, to compare its weights with."),
    ] = None,
    family: FamilyName = None,
    part: PartValues = None,
    engines: Annotated[
        Path | None, typer.Option(help="Engine directory whose shared and GPU memory to add up.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="JSONL of scored frames to examine.")] = None,
    activations: Annotated[
        bool, typer.Option("--activations", help="Run the checkpoint and report their range.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine; with --checkpoint, say what decides a checkpoint's scores or answers.

    Example: [bold]groundserve doctor --checkpoint ./VideoITG-8B[/bold]
    """
    given = {"--vision-tower": vision_tower, "--family": family, "--activations": activations}
    for option, value in given.items():
        if value and checkpoint is None:
            raise InvalidRequestError(f"{option} goes with --checkpoint")
    parts = parse_parts(part or [], checkpoint=checkpoint)
    if checkpoint is not None:
        checkpoint_family(checkpoint, family=family, parts=parts, vision_tower=vision_tower)
    if engines is not None:
        Manifest.load(engines)
    if results is not None:
        check_input(results)
    rows = list(check_machine())
    if checkpoint is not None:
        look = extras.load("groundserve.cli.doctor_checkpoint", "build").check_checkpoint
        sources = {"vision_tower": vision_tower, "family": family, "parts": parts}
        with progress("reading the checkpoint"):
            rows += look(checkpoint, sources, activations=activations)
    if engines is not None:
        rows += check_engines(engines)
    if results is not None:
        rows += check_records(results)
    failed = any(status == "fail" for _, status, _ in rows)
    if as_json:
        findings = [dict(zip(("subject", "status", "detail"), row, strict=True)) for row in rows]
        print_json({"ok": not failed, "findings": findings})
    else:
        table = plain_table("", "subject", "found")
        for subject, status, detail in rows:
            table.add_row(cell(status, style=_COLOURS[status]), cell(subject), cell(detail))
        stdout.print(table)
    raise typer.Exit(1 if failed else 0)
