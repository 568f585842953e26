"""What is left to do: the manifest's rows against what is done, grouped by video, cut into units.

The rows lie in a temporary SQLite file, so memory does not grow with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from groundserve.batch.errors import Failure
from groundserve.batch.keys import Fingerprint
from groundserve.batch.rows import BadRow, Row
from groundserve.options import ScoreOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Rows of one video with equal sampling options: decoded and encoded once."""

    place: str
    """Where the video is: a path or an fsspec URL."""
    identity: str
    """See `groundserve.batch.keys.find_video`."""
    num_bytes: int
    """Of the file."""
    rows: tuple[Row, ...]
    """In the manifest's order; `top_k` and `selector` may differ."""
    keys: tuple[str, ...]
    """Of each row. Rows of equal keys are scored once."""

    def calls(self, max_queries: int) -> Iterator[tuple[ScoreOptions, tuple[str, ...]]]:
        """Yield what to ask a scorer: options and at most `max_queries` distinct questions each."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """What one task computes, and one shard holds."""

    number: int
    """From 0 within an attempt."""
    groups: tuple[Group, ...]
    """At least one."""
    is_alone: bool = False
    """Whether it is one group of a unit that was lost."""

    @property
    def num_rows(self) -> int:
        """Rows of all groups."""
        return sum(len(group.rows) for group in self.groups)

    def alone(self) -> list[Unit]:
        """Return a unit of each group, to find the one that kills its worker."""
        return [Unit(number=self.number, groups=(group,), is_alone=True) for group in self.groups]


@dataclass(frozen=True, kw_only=True)
class UnitSize:
    """Where a unit ends."""

    max_groups: int = 64
    """Videos."""
    max_rows: int = 2048
    """Rows; a video with more has several groups."""
    max_bytes: int = 4 * 2**30
    """Of video files; a larger one is a unit by itself."""

    @classmethod
    def for_job(cls, num_groups: int, *, workers: int) -> Self:
        """Return a size that gives each worker 16 units or more, where there are so many videos."""
        raise NotImplementedError


def cut_units(groups: Iterable[Group], size: UnitSize) -> Iterator[Unit]:
    """Join groups, in order, into units no larger than `size`."""
    raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows of a plan, each in one of four."""

    num_rows: int
    """All."""
    num_done: int
    """Have an answer from an earlier attempt."""
    num_invalid: int
    """Will not be tried: broken lines, missing videos, files past the limit."""
    num_spent: int
    """Failed as often as they may."""
    num_to_do: int
    """Left."""
    num_groups: int
    """Videos (with options) of those."""
    num_repeated: int
    """Rows without id that equal an earlier one in all; they are not among `num_rows`."""


class Plan:
    """The manifest's rows in a temporary file, with what is known of each.

    Args of `make` in short: rows in, `counts`, `units` and `errors` out.
    """

    @classmethod
    def make(
        cls,
        rows: Iterable[Row | BadRow],
        *,
        fingerprint: Fingerprint,
        done: Iterable[tuple[str, str]] = (),
        failures: Iterable[Failure] = (),
        max_attempts: int = 3,
    ) -> Self:
        """Read the rows, look at each video once, and match them with what is done.

        Args:
            rows: Of the manifest.
            fingerprint: Of the run.
            done: (id, row_key) of each row that has an answer; see `RunDirectory.done`.
            failures: Of earlier attempts, in order; see `RunDirectory.failures`.
            max_attempts: How often a row is tried, at least 1, over all attempts.

        Raises:
            InvalidRequestError: An id stands in the manifest twice; or a row that is done is gone,
                or was edited, or its video has changed.
        """
        raise NotImplementedError

    @property
    def counts(self) -> Counts:
        """How many rows are in which state."""
        raise NotImplementedError

    def units(self, size: UnitSize) -> Iterator[Unit]:
        """Yield what is to be done, videos in the order in which the manifest has them first."""
        raise NotImplementedError

    def close(self) -> None:
        """Delete the temporary file."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
