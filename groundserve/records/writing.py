"""Files of records that several processes write: checked before any work, never left half done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path

from groundserve.errors import InvalidRequestError
from groundserve.files import append_whole, locked, require_writable, whole_file
from groundserve.records.reading import Line, as_read, locked_lines, parse_lines
from groundserve.records.record import DocId, Record
from groundserve.strict_json import shown


def check_records(
    path: str | PathLike[str], doc_ids: Sequence[DocId], *, replace: bool = False
) -> None:
    """Find out before any work whether `add_records` can write records with these ids.

    Raises:
        InvalidRequestError: The file cannot be written, a line of it is not a record, an id is
            given twice, or is in the file (more than once, with `replace`); the message names the
            line.
    """
    _require_distinct(doc_ids)
    require_writable(path, is_grown=True)
    if os.path.exists(path):
        if replace:
            require_writable(path)
        _require_ended(path)
        _find(path, locked_lines(path), doc_ids, replace=replace)


def add_records(
    path: str | PathLike[str], records: Sequence[Record], *, replace: bool = False
) -> None:
    """Add records to a file that has none of their ids, or replace those that it has.

    Processes that write to one file wait for each other (flock); where the file system has no such
    locks, let one write at a time. Lines are added in one write. To replace some, the file is
    written anew as `whole_file` does; all other lines stay as they are, byte by byte.

    Raises:
        InvalidRequestError: As `check_records`.
        OSError: The disk is full, or fails; the file is as it was.
    """
    doc_ids = [record.doc_id for record in records]
    _require_distinct(doc_ids)
    new = {as_read(record.doc_id): _encode(record) for record in records}
    require_writable(path, is_grown=True)
    with locked(path):
        lines = parse_lines(path) if os.path.exists(path) else ()
        places = _find(path, lines, doc_ids, replace=replace)
        replaced = {number: new.pop(doc_id) for doc_id, number in places.items()}
        added = b"".join(new.values())
        if not replaced:
            _append(path, added)
            return
        _require_ended(path)
        try:
            with whole_file(path) as copy, Path(path).open("rb") as file:
                copy.writelines(replaced.get(number, raw) for number, raw in enumerate(file, 1))
                copy.write(added)
        except OSError as error:  # those of writing name no file
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def append_records(path: str | PathLike[str], records: Sequence[Record]) -> None:
    """Append lines to a file in one write, locked, without a look at the ids in it.

    For a file that grows in many steps, of which `check_records` was asked once. Errors are those
    of `add_records`.
    """
    require_writable(path, is_grown=True)
    with locked(path):
        _append(path, b"".join(map(_encode, records)))


def _append(path: str | PathLike[str], data: bytes) -> None:
    if os.path.exists(path):
        _require_ended(path)
    with Path(path).open("ab") as file:
        append_whole(file, data)


def _require_ended(path: str | PathLike[str]) -> None:
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read() not in (b"", b"\n"):
            number = Path(path).read_bytes().count(b"\n") + 1
            raise InvalidRequestError(
                f"{path}, line {number}: no newline at its end, so it may be cut short; add one, "
                "or remove the line"
            )


def _require_distinct(doc_ids: Sequence[DocId]) -> None:
    seen: set[DocId] = set()
    for doc_id in map(as_read, doc_ids):
        if doc_id in seen:
            raise InvalidRequestError(f"each record must have its own id, got {doc_id} twice")
        seen.add(doc_id)


def _find(
    path: str | PathLike[str], lines: Iterable[Line], doc_ids: Sequence[DocId], *, replace: bool
) -> dict[DocId, int]:
    """Return the number of the line of each id that is in the file and may be replaced."""
    wanted = set(map(as_read, doc_ids))
    places: dict[DocId, int] = {}
    for line in lines:
        if line.doc_id not in wanted:
            continue
        where = f"{path}, line {line.number}: doc_id {shown(line.doc_id)} is there already"
        if not replace:
            raise InvalidRequestError(
                f"{where}; write to another file, or replace it (score --replace)"
            )
        if line.doc_id in places:
            raise InvalidRequestError(
                f"{where}, in line {places[line.doc_id]}; remove one of the two, so that it is "
                "known which to replace"
            )
        places[line.doc_id] = line.number
    return places


def _encode(record: Record) -> bytes:
    # A video's name need not be UTF-8; escaped, it is JSON still.
    return (record.to_json_line() + "\n").encode("utf-8", "backslashreplace")
