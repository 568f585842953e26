"""Files of records, read: a JSON object a line, of which the first of each id counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from typing import Any

from groundserve.errors import InvalidRequestError
from groundserve.files import filled_lines, locked
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
    for line in locked_lines(path):
        rankings.setdefault(line.doc_id, line.index)
    return rankings


def locked_lines(path: str | PathLike[str]) -> Iterator[Line]:
    """Yield the records of a file, as `parse_lines`, never half of what another process adds."""
    with locked(path, is_shared=True):
        yield from parse_lines(path)


def parse_lines(path: str | PathLike[str]) -> Iterator[Line]:
    """Yield the records of a file; an InvalidRequestError names the line that is none."""
    for number, raw in filled_lines(path):
        yield _parse(raw, number, where=f"{path}, line {number}")


def as_read(doc_id: DocId) -> DocId:
    """Return an id as the reference's readers take it: text of a whole number is that number."""
    with suppress(ValueError):
        return int(doc_id)
    return doc_id


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
