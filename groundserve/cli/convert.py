"""`groundserve convert`: a published training set as records and media that `train` reads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._output import plain_table, print_json, progress, stdout
from groundserve.errors import MissingExtraError

NAME = "convert"


def command(
    dataset: Annotated[str, typer.Argument(help="llava-pretrain, llava-onevision or llava-video.")],
    source: Annotated[Path, typer.Argument(help="Folder that it was downloaded to.")],
    out: Annotated[Path, typer.Argument(help="Folder for the result.")],
    include: Annotated[
        list[str] | None,
        typer.Option(help="Record files to take, a glob pattern; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Convert a training set as it is published to what `train` reads.

    OUT/records.json and OUT/media are what a run's `data.records` and `data.media_root` name;
    OUT/bad_records.jsonl has what was left out, with the rule it breaks. Interrupted, the same
    command goes on where it stopped.

    Example: [bold]groundserve convert llava-video LLaVA-Video-178K data/llava-video[/bold]

    Example: [bold]groundserve convert llava-onevision LLaVA-OneVision-Data data/ai2d
    --include 'ai2d*'[/bold]
    """
    try:
        from train.convert import convert
    except ImportError as error:
        raise MissingExtraError("train", error.name or "pillow") from error

    with progress("reading") as show:
        report = convert(dataset, source, out, include=include or (), on_file=show)
    if as_json:
        print_json(
            {**asdict(report), "records": str(report.records), "media_root": str(report.media_root)}
        )
        return
    table = plain_table("records", "number")
    table.add_row("about an image", f"{report.num_images:,}")
    table.add_row("about a video", f"{report.num_videos:,}")
    table.add_row("text alone", f"{report.num_records - report.num_images - report.num_videos:,}")
    table.add_row("left out", f"{report.num_bad:,}")
    for rule, number in report.bad_rules.items():
        table.add_row(f"  {rule}", f"{number:,}")
    stdout.print(table)
    stdout.print(f"records {report.records}, media_root {report.media_root}", soft_wrap=True)
