"""`groundserve train convert`: a published training set as records and media that `train` reads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._output import cell, plain_table, print_json, print_line, progress, stdout
from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.runtime.own_packages import require_own


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

    Example: [bold]groundserve train convert llava-video LLaVA-Video-178K data/llava-video[/bold]

    Example: [bold]groundserve train convert llava-onevision LLaVA-OneVision-Data data/ai2d
    --include 'ai2d*'[/bold]
    """
    if not source.is_dir():
        raise InvalidRequestError(f"no such folder to convert from: {source}")
    require_own("train")
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
    table = plain_table("number", "records")
    num_texts = report.num_records - report.num_images - report.num_videos
    table.add_row(f"{report.num_images:,}", "about an image")
    table.add_row(f"{report.num_videos:,}", "about a video")
    table.add_row(f"{num_texts:,}", "text alone")
    table.add_row(f"{report.num_bad:,}", "left out")
    for rule, number in report.bad_rules.items():
        table.add_row(f"{number:,}", cell(f"  {rule}"))
    stdout.print(table)
    print_line(f"records {report.records}, media_root {report.media_root}")
