"""Rows of one video together, and some videos together: what one task computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from groundserve.batch.row import Row
from groundserve.batch.row_options import RowOptions

_UNITS_PER_WORKER = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Rows of one video with equal sampling options: decoded and encoded once."""

    place: str
    """Where the video is: a path or an fsspec URL."""
    identity: str
    num_bytes: int
    rows: tuple[Row, ...]
    """In the manifest's order; options that sample no frames may differ."""
    keys: tuple[str, ...]
    """Rows of equal keys are scored once."""

    def calls(self, max_queries: int) -> Iterator[tuple[RowOptions, tuple[str, ...]]]:
        """Yield what to ask: options and at most `max_queries` distinct questions each."""
        asked: dict[RowOptions, dict[str, None]] = {}
        for row in self.rows:
            asked.setdefault(row.options, {})[row.query] = None
        for options, queries in asked.items():
            distinct = tuple(queries)
            for start in range(0, len(distinct), max_queries):
                yield options, distinct[start : start + max_queries]


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
    max_rows: int = 2048
    """Rows: a shard of them is 25 MB at 512 frames. A video with more has several groups."""
    max_bytes: int = 4 * 2**30
    """Bytes of video files; a larger one is a unit by itself."""

    @classmethod
    def for_job(cls, num_groups: int, *, workers: int) -> Self:
        """Return a size that gives each worker 16 units, or as many as there are videos.

        A kill loses one unit of each worker at most. Of large corpora units have 64 videos, so
        that a million of them become some 16 thousand files.
        """
        share = -(-num_groups // (_UNITS_PER_WORKER * workers))
        return cls(max_groups=min(max(share, 1), cls.max_groups))


def cut_units(groups: Iterable[Group], size: UnitSize) -> Iterator[Unit]:
    """Join groups, in order, into units no larger than `size`, a group at least in each."""
    number = 0
    held: list[Group] = []
    num_rows = num_bytes = 0
    for group in groups:
        if held and (
            len(held) == size.max_groups
            or num_rows + len(group.rows) > size.max_rows
            or num_bytes + group.num_bytes > size.max_bytes
        ):
            yield Unit(number=number, groups=tuple(held))
            number += 1
            held, num_rows, num_bytes = [], 0, 0
        held.append(group)
        num_rows += len(group.rows)
        num_bytes += group.num_bytes
    if held:
        yield Unit(number=number, groups=tuple(held))
