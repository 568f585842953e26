"""Files of records, read: a JSON object a line, of which the first of each id counts."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from groundserve.errors import InvalidRequestError
from groundserve.records.record import DocId
from groundserve.strict_json import shown


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is a record, ours or another program's."""

    number: int
    """From 1; blank lines count."""
    doc_id: DocId
    """As `as_read` has it."""
    index: list[int]
    """Ordinals, best first."""
    fields: dict[str, Any]


def read_records(path: str | PathLike[str]) -> dict[DocId, list[int]]:
    """Return `doc_id` -> ordinals, best first; the first line of a `doc_id` counts.

    Only `doc_id` and `index` are needed, so files of other selectors can be read too.

    Raises:
        InvalidRequestError: The file cannot be read, or a line is not such a record. (The
            reference's readers skip a malformed line and fall back to uniform frames.)
    """
    rankings: dict[DocId, list[int]] = {}
    with opened(path) as lines:
        for line in lines:
            rankings.setdefault(line.doc_id, line.index)
    return rankings


@contextmanager
def opened(path: str | PathLike[str], *, is_to_grow: bool = False) -> Iterator[Iterator[Line]]:
    """Open a file and give its records, as `parse_lines` does; its lock is gone with the block.

    Raises:
        InvalidRequestError: The file cannot be read, or a line is not a record.
    """
    try:
        with Path(path).open("rb") as file:
            # Never half of what another process is adding; some file systems have no locks.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_SH)
            yield parse_lines(path, file, is_to_grow=is_to_grow)
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error


def parse_lines(
    path: str | PathLike[str], file: Iterable[bytes], *, is_to_grow: bool
) -> Iterator[Line]:
    """Yield the records of a file that is open in binary; an error names the line.

    Where lines are to be added, the last one must have its end.
    """
    for number, raw in enumerate(file, start=1):
        if is_to_grow and not raw.endswith(b"\n"):
            raise no_newline(path, f"line {number}")
        if raw.strip():
            yield _parse(raw, number, where=f"{path}, line {number}")


def as_read(doc_id: DocId) -> DocId:
    """Return an id as the reference's readers take it: text of a whole number is that number."""
    with suppress(ValueError):
        return int(doc_id)
    return doc_id


def no_newline(path: str | PathLike[str], where: str) -> InvalidRequestError:
    """Return the error of a last line that nothing can be added after."""
    return InvalidRequestError(
        f"{path}, {where}: no newline at its end, so it may be cut short; add one, or remove the "
        "line"
    )


def _parse(raw: bytes, number: int, *, where: str) -> Line:
    try:
        fields: Any = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{where}: not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{where}: not JSON") from error
    try:
        doc_id, index = fields["doc_id"], fields["index"]
        if not isinstance(index, list):
            raise TypeError("index is no list")
        index = [int(ordinal) for ordinal in index]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidRequestError(
            f"{where}: not a record with doc_id and index, as docs/score.md has it"
        ) from error
    if isinstance(doc_id, bool) or not isinstance(doc_id, int | str):
        raise InvalidRequestError(
            f"{where}: doc_id must be a whole number or text, got {shown(doc_id)}"
        )
    return Line(number, as_read(doc_id), index, fields)
