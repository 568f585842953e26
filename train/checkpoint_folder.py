"""Checkpoints that appear whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from groundserve.errors import InvalidRequestError
from train.families.base import Initial
from train.files import flush, flush_directory


def write_checkpoint(
    directory: Path,
    initial: Initial,
    state_dict: Mapping[str, Tensor],
    *,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint that serving, the next stage and the reference read.

    It appears whole or not at all: files are written under another name, flushed to the disk and
    renamed. An earlier checkpoint of the same name is replaced.

    Args:
        directory: To be made; its parent exists.
        initial: What the stage started from.
        state_dict: As of `Initial.write_files`.
        notes: Text files to appear with it, by name.

    Raises:
        InvalidRequestError: `directory` exists and is not a checkpoint.
        GroundserveError: A file cannot be written.
    """
    if directory.exists() and not (directory / "config.json").is_file():
        raise InvalidRequestError(f"{directory} exists and is not a checkpoint; remove it")
    temporary, replaced = _beside(directory)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    initial.write_files(temporary, state_dict)
    for name, text in (notes or {}).items():
        (temporary / name).write_text(text, "utf-8")
    flush_directory(temporary)
    shutil.rmtree(replaced, ignore_errors=True)
    if directory.exists():
        directory.rename(replaced)
    temporary.rename(directory)
    flush(directory.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def recover_checkpoint(directory: Path) -> None:
    """Clear up after a process that was killed amid `write_checkpoint`: what was there is back."""
    temporary, replaced = _beside(directory)
    if replaced.is_dir() and not directory.exists():
        replaced.rename(directory)  # it was killed between the two renames
    for leftover in (temporary, replaced):
        shutil.rmtree(leftover, ignore_errors=True)


def _beside(directory: Path) -> tuple[Path, Path]:
    """Return where a checkpoint is written, and where the one goes that it replaces."""
    partial, replaced = (f".{directory.name}.{end}" for end in ("partial", "replaced"))
    return directory.with_name(partial), directory.with_name(replaced)
