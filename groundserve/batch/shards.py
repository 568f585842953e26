"""Parquet files of scored rows and of errors: their columns, and how a worker writes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from groundserve.batch.errors import ErrorKind, Failure
from groundserve.batch.plan import Group, Unit
from groundserve.options import ScoreOptions
from groundserve.results import ScoreResult

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True, slots=True)
class Staging:
    """Where the workers of an attempt write; small, so that it travels to them."""

    place: str
    """The run directory: path or fsspec URL."""
    attempt: int
    """Number of the attempt."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a worker hands to the driver in place of arrays."""

    unit: int
    """`Unit.number`."""
    num_rows: int
    """Rows in the staged shard."""
    staged: str | None
    """Name below the run directory; None where no row has an answer."""
    sha256: str
    """Of the file's bytes; "" without a file."""
    num_bytes: int
    """Of the file."""
    failures: tuple[Failure, ...]
    """Rows without an answer."""
    num_videos: int
    """Groups worked on."""
    num_decoded: int
    """Calls whose answer did not come from the feature cache: decoded and encoded."""
    num_calls: int
    """Calls of the scorer that answered."""
    video_seconds: float
    """Durations of the videos that were answered."""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall seconds of each stage, summed over calls."""
    started: float = 0.0
    """Seconds since the epoch."""
    wall_seconds: float = 0.0
    """That the unit took."""
    host: str = ""
    """Where."""
    pid: int = 0
    """Of the worker."""


def schema() -> pa.Schema:
    """Return the columns of every Parquet file of a run; docs/batch.md explains each."""
    raise NotImplementedError


class ShardWriter:
    """Gathers the answers of one unit and writes them as one file, in the manifest's order.

    Example:
        >>> writer = ShardWriter(unit)
        >>> for group in unit.groups:
        ...     for options, queries in group.calls(limits.max_queries):
        ...         try:
        ...             writer.add(group, options, scorer.score(group.place, queries, options))
        ...         except GroundserveError as error:
        ...             writer.fail(group, kind_of(error), str(error), options, queries)
        >>> receipt = writer.write(staging)
    """

    def __init__(self, unit: Unit) -> None:
        raise NotImplementedError

    def add(self, group: Group, options: ScoreOptions, result: ScoreResult) -> None:
        """Take the answer of one call, for every row of the group that asked this."""
        raise NotImplementedError

    def fail(
        self,
        group: Group,
        kind: ErrorKind,
        message: str,
        options: ScoreOptions | None = None,
        queries: Sequence[str] | None = None,
    ) -> None:
        """Note that rows have no answer: those of one call, or all of the group that have none."""
        raise NotImplementedError

    def write(self, staging: Staging) -> Receipt:
        """Write the rows under a name that does not end in .parquet, to the disk.

        Raises:
            RunDirectoryError: The disk is full, or cannot be written to.
        """
        raise NotImplementedError
