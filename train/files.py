"""Folders that one process writes at a time; files and checkpoints that are whole on the disk."""

from __future__ import annotations

import fcntl
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from torch import Tensor

from groundserve.errors import InvalidRequestError
from train.families.base import Initial


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make a folder and keep other writers from it, to the end of the block or of the process.

    It is the folder that is locked (flock). Where its file system has no such lock, as NFS has
    none for folders, nobody is kept from it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A lock of this kind is the open file's, not the process's: a program started from here
        # that inherited it would hold the folder after we end, hence O_CLOEXEC.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidRequestError(f"cannot make the folder {folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # An OSError too, hence first: this is the one that says that somebody holds the lock.
        except BlockingIOError:
            raise InvalidRequestError(
                f"another process writes to {folder}; wait until it has ended, or give another "
                "folder"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name when it is complete, and not at all before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not longer than the name, which may have as many bytes as a name can.
    partial = path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        # Seen by others in one step. To outlive a power failure, file and folder need `flush`
        # besides.
        os.replace(partial, path)
    # Also for an interrupt.
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def flush_directory(directory: Path) -> None:
    """Flush a folder and everything in it."""
    # A folder's own flush makes the names in it last, so the top comes when all below it is there.
    for path in [*directory.rglob("*"), directory]:
        flush(path)


def flush(path: Path) -> None:
    """Flush a file, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_checkpoint(
    directory: Path,
    initial: Initial,
    state_dict: Mapping[str, Tensor],
    *,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint that serving, the next stage and the reference read.

    It appears whole or not at all: files are written under another name, flushed to the disk and
    renamed. An earlier checkpoint of the same name is replaced. `notes` are text files to appear
    with it, by name.
    """
    if directory.exists() and not (directory / "config.json").is_file():
        raise InvalidRequestError(f"{directory} exists and is not a checkpoint; remove it")
    temporary, replaced = _beside(directory)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    initial.write_files(temporary, state_dict)
    for name, text in (notes or {}).items():
        (temporary / name).write_text(f"{text}\n", "utf-8")
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
