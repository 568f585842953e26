"""A file that appears when it is whole, its lines in an order of their own."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from groundserve.errors import InvalidRequestError
from groundserve.records.record import DocId
from groundserve.strict_json import shown


def check_output(path: Path, *, replace: bool) -> None:
    """Refuse, before any work, a place that could not be written to in the end.

    Raises:
        InvalidRequestError: The file exists and is not to be replaced, is no regular file, or its
            folder is missing or may not be written to.
    """
    if os.path.lexists(path):
        if not path.is_file():
            raise InvalidRequestError(f"cannot write {path}: it is no file")
        if not replace:
            raise _exists(path)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InvalidRequestError(f"cannot write {path}: no such folder: {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidRequestError(f"cannot write {path}: {folder} may not be written to")


class SortedLines:
    """Lines that come in any order and are written by id: numbers first, then texts.

    So the same rows give the same bytes, in whatever order a job has left them. Lines wait in a
    file, since they may hold pictures; of each no more than its id and its place is in memory.
    """

    def __init__(self, spool: IO[bytes]) -> None:
        """Keep the lines in a file that is open to read and write."""
        self._spool = spool
        self._kept: dict[DocId, tuple[str, int, int]] = {}
        self._end = 0

    def __len__(self) -> int:
        return len(self._kept)

    def ids(self) -> list[DocId]:
        """Return the ids in the lines' order."""
        return sorted(self._kept, key=lambda it: (isinstance(it, str), it))

    def add(self, line_id: DocId, line: str, *, place: str) -> None:
        """Keep a line.

        Raises:
            InvalidRequestError: There is one with this id, of which readers would see one alone.
        """
        if line_id in self._kept:
            raise repeated_id(line_id, place, self._kept[line_id][0])
        # A video's name need not be UTF-8; escaped, it is JSON still.
        raw = line.encode("utf-8", "backslashreplace")
        self._spool.seek(self._end)
        self._spool.write(raw)
        self._kept[line_id] = (place, self._end, len(raw))
        self._end += len(raw)

    def read(self) -> Iterator[bytes]:
        """Yield the lines in order, without newlines."""
        for line_id in self.ids():
            _, start, size = self._kept[line_id]
            self._spool.seek(start)
            yield self._spool.read(size)


@contextmanager
def new_lines(path: Path) -> Iterator[SortedLines]:
    """Give a place to collect the lines of a file in, beside it; nothing is left of it."""
    with tempfile.TemporaryFile(dir=path.absolute().parent) as spool:
        yield SortedLines(spool)


def write_lines(path: Path, lines: SortedLines, *, is_list: bool, replace: bool) -> None:
    """Write JSON Lines, or one JSON list with an element a line.

    The file is written under another name, flushed and renamed: killed at any moment, the whole
    file or none is there, and at most a `.groundserve-*.partial` beside it.

    Raises:
        InvalidRequestError: A file of that name has appeared meanwhile.
        OSError: The disk is full, or fails; the file is as it was.
    """
    real = Path(os.path.realpath(path))  # a link stays one
    partial = real.with_name(f".groundserve-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.writelines(_as_list(lines) if is_list else (it + b"\n" for it in lines.read()))
            file.flush()
            os.fsync(file.fileno())
        if replace:
            if real.exists():
                partial.chmod(stat.S_IMODE(real.stat().st_mode))
            os.replace(partial, real)
        else:
            _rename_new(partial, real)
    finally:
        partial.unlink(missing_ok=True)


def repeated_id(line_id: DocId, place: str, other: str) -> InvalidRequestError:
    """Return the error of two questions, named by their places, that have one id."""
    return InvalidRequestError(
        f"{place}: {shown(line_id)} is the id of {other} too; readers take the first line of an "
        "id, so each question must have its own"
    )


def _as_list(lines: SortedLines) -> Iterator[bytes]:
    before = b"[\n"
    for line in lines.read():
        yield before + line
        before = b",\n"
    yield b"\n]\n"


def _rename_new(partial: Path, path: Path) -> None:
    """Rename a file unless the other name is taken, which renaming alone would not see."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # a file system without links
        os.rename(partial, path)


def _exists(path: Path) -> InvalidRequestError:
    return InvalidRequestError(f"{path} exists; write to another file, or replace it (--replace)")
