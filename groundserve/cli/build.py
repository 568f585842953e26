"""`groundserve build`: checkpoint -> engine directory, joined with its gate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._output import print_json, progress, stdout
from groundserve.cli.gate import check_engines
from groundserve.errors import UnsupportedError
from groundserve.profiles import PROFILES

NAME = "build"


def command(
    checkpoint: Annotated[str, typer.Option(help="Checkpoint directory or hub id.")],
    out: Annotated[Path, typer.Option(help="Engine directory to write.")],
    profile: Annotated[str, typer.Option(help=f"One of {', '.join(PROFILES)}.")] = "cpu",
    precision: Annotated[
        str | None, typer.Option(help="Arithmetic; the profile's own when left out.")
    ] = None,
    vision_tower: Annotated[
        str | None,
        typer.Option(help="SigLIP directory or hub id, when it is not beside the checkpoint."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build the engine directory that `serve` and `score --engines` load.

    The engines are compared with PyTorch before the command ends; a build that differs fails.

    Example: [bold]groundserve build --checkpoint ./VideoITG-8B --out ./engines[/bold]
    """
    from engine_build import build

    if precision not in (None, "fp32", "bf16", "fp16"):
        raise UnsupportedError(f"precision must be fp32, bf16 or fp16, got {precision!r}")
    with progress("building") as step:
        manifest = build(
            checkpoint,
            out,
            profile=profile,
            precision=precision,  # type: ignore[arg-type] # checked above
            vision_tower=vision_tower,
            on_step=step,
        )
        step("checking the engines against PyTorch")
        report = check_engines(out, checkpoint, vision_tower=vision_tower)
    if as_json:
        print_json({"out": str(out), "engine": manifest.identity, "gate": asdict(report)})
        return
    stdout.print(
        f"engine directory {out}: {manifest.profile}, {manifest.precision}", soft_wrap=True
    )
    stdout.print(
        f"gate: features differ by {report.feature_error:.1e}, logits by "
        f"{report.logit_error:.1e} (relative); mask probe {report.mask_probe:.1e}",
        soft_wrap=True,
    )
