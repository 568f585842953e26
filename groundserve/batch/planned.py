"""What a plan says of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from groundserve.batch.errors import ErrorKind


class DoneRow(NamedTuple):
    """A row that has an answer."""

    id: str
    row_key: str
    request: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorRow:
    """A row without an answer, as the files of errors have it."""

    id: str
    row_key: str | None
    """None where there is no video to tell it by."""
    video: str
    query: str
    options: str | None
    """None of a line that could not be read."""
    kind: ErrorKind
    message: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows of a plan: `num_rows` is the sum of the four below it."""

    num_rows: int
    """All, each with an id of its own."""
    num_done: int
    """Have an answer from an earlier attempt."""
    num_invalid: int
    """Are not tried: broken lines, missing videos, files past the limit."""
    num_spent: int
    """Failed as often as they may."""
    num_to_do: int
    """Left."""
    num_groups: int
    """Videos of those, each with its sampling options."""
    num_repeated: int
    """Rows without id that equal an earlier one in all that decides the result; they are left out.
    """

    @property
    def num_failed(self) -> int:
        """Rows that are not tried and have no answer."""
        return self.num_invalid + self.num_spent
