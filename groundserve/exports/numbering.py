"""The id of each question's line, by which readers find it: in benchmarks a number."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from groundserve.errors import InvalidRequestError
from groundserve.exports.rows import ExportRow
from groundserve.records.reading import as_read
from groundserve.records.record import DocId, make_doc_id
from groundserve.strict_json import parse_object, shown


class Numbering:
    """Gives each row the id of its line: its own, its number in a file, or its place."""

    def __init__(
        self, *, must_be_numbers: bool, first: int | None, by_id: Mapping[DocId, int] | None
    ) -> None:
        """Take the number of the source's first question, where it has no ids, or that of each."""
        self._must_be_numbers = must_be_numbers
        self._next = first
        self._by_id = by_id
        self._used: set[DocId] = set()

    @property
    def num_unused(self) -> int:
        """Entries of the file that no row had."""
        return len(self._by_id.keys() - self._used) if self._by_id is not None else 0

    def id_of(self, row: ExportRow) -> DocId:
        """Return the id of a row's line; rows come once each, in the source's order."""
        if self._next is not None:
            if row.id is not None:
                raise InvalidRequestError(
                    f"{row.place}: the row has the id {shown(row.id)}; --doc-id is for answers of "
                    "score --json, which have none"
                )
            self._next += 1
            return self._next - 1
        if row.id is None:
            if self._must_be_numbers or self._by_id is not None:
                raise InvalidRequestError(
                    f"{row.place}: answers of score --json have no ids; give the number of the "
                    "first question in its benchmark (--doc-id)"
                )
            return make_doc_id(row.video, row.query)
        if self._by_id is not None:
            if row.id not in self._by_id:
                raise InvalidRequestError(
                    f"{row.place}: --doc-ids has no number for {shown(row.id)}"
                )
            self._used.add(row.id)
            return self._by_id[row.id]
        if self._must_be_numbers and (isinstance(row.id, str) or row.id < 0):
            raise InvalidRequestError(
                f"{row.place}: the id must be the question's number in its benchmark, a whole "
                f"number >= 0, got {shown(row.id)}: readers would not find its line, and sample "
                "uniformly; give a file of ids and numbers (--doc-ids)"
            )
        return row.id


def read_numbers(path: str | PathLike[str]) -> dict[DocId, int]:
    """Read a JSON object of ids and the numbers of their questions, each number once.

    Raises:
        InvalidRequestError: The file cannot be read, or is not such an object.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
    taken: dict[int, str] = {}
    for key, value in parse_object(text, str(path)).items():
        if type(value) is not int or value < 0:
            raise InvalidRequestError(
                f"{path}: the number of {shown(key)} must be a whole number >= 0, "
                f"got {shown(value)}"
            )
        if value in taken:
            raise InvalidRequestError(
                f"{path}: {shown(taken[value])} and {shown(key)} have the same number {value}"
            )
        taken[value] = key
    return {as_read(key): value for value, key in taken.items()}
