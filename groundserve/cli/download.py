"""`groundserve download`: a published checkpoint from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._output import print_json, print_line, print_note
from groundserve.errors import InvalidRequestError
from groundserve.weights.published import (
    PUBLISHED,
    check_revision,
    download,
    downloads_dir,
    find_published,
    missing_parts,
)


def command(
    name: Annotated[str, typer.Argument(help=f"Checkpoint: {', '.join(PUBLISHED)}.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for it.", show_default="~/.cache/groundserve/checkpoints/NAME"),
    ] = None,
    accept_license: Annotated[
        bool,
        typer.Option("--accept-license", help="You have read its licence and agree to it."),
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(help="Commit, branch or tag.", show_default="the commit that is pinned"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Download a published checkpoint: licence first, at a pinned commit, each file checked.

    Given again, it fetches the files that are missing. HF_ENDPOINT and HF_TOKEN count.

    Example: [bold]groundserve download siglip --accept-license[/bold]
    """
    checkpoint = find_published(name)
    for one in checkpoint.repositories:
        check_revision(one, revision)
        print_note(f"{one.hub_id}: licence {one.licence}; https://huggingface.co/{one.hub_id}")
    if not accept_license:
        raise InvalidRequestError(
            "read the licence at the addresses above, and give --accept-license if you agree"
        )
    folder = out or downloads_dir() / name
    record = download(name, folder, revision=revision)
    missing = missing_parts(name, folder)
    if as_json:
        print_json({"folder": str(folder), "repositories": record, "missing": missing})
        return
    for hub_id, one in record.items():
        print_line(f"{hub_id} at {one['commit']}: {len(one['files'])} files, all hashes right")
    print_line(str(folder))
    if missing:
        print_note(f"not on the hub, docs/checkpoints.md says where: {', '.join(missing)}")
