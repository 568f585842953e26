"""What a batch's report says: attempts, log and error rows of its run directory, summed up."""

from __future__ import annotations

import heapq
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundserve.batch.attempts import read_attempts
from groundserve.batch.events import Event, RowFailed, UnitDone, VideoTime
from groundserve.batch.shards import ERRORS, final_names, read_shard
from groundserve.batch.status import Attempt, Status
from groundserve.storage import Storage

_NUM_BARS = 120
_LEAST_BAR_SECONDS = 0.5
_ALL_STAGES = "total"
"""The stage of an answer that is all of them, and what is between."""
_NO_STAGE = "outside: opening engines, fetching, writing"
_NUM_SLOWEST = 10
_NUM_FIRST = 5

FirstFailures: TypeAlias = dict[str, list[tuple[str, ...]]]
"""Kind -> row id, video and message of the first ones."""


@dataclass(kw_only=True)
class Worker:
    """One process that scored."""

    host: str
    pid: int
    num_rows: int = 0
    video_seconds: float = 0.0
    busy_seconds: float = 0.0


class Bar(NamedTuple):
    """What happened between two moments."""

    start_seconds: float
    """From the start of the run, the time between two attempts left out."""
    seconds: float
    """Its length, above 0."""
    num_scored: float
    """Rows that succeeded; of a unit that took longer, its part of them."""
    num_failed: float


@dataclass(kw_only=True)
class ReportFacts:
    """All that a report says; memory grows with workers and kinds of errors, not with rows."""

    status: Status
    attempts: list[Attempt] = field(default_factory=list)
    running_seconds: float = 0.0
    """That all attempts took together; the time between them left out."""
    video_seconds: float = 0.0
    """Duration of the videos that were scored, each counted once an attempt."""
    first_failures: FirstFailures = field(default_factory=dict)
    bars: Sequence[Bar] = ()
    stages: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of each in all workers."""
    workers: dict[tuple[str, int], Worker] = field(default_factory=dict)
    """Host and process -> what it did."""
    slowest: list[VideoTime] = field(default_factory=list)
    """The slowest first."""
    price_per_hour: float | None = None
    """What all machines of the job cost together; None where nobody said."""

    @property
    def cost_per_1000_video_hours(self) -> float | None:
        """In the price's currency; None without a price, or where no video is scored yet."""
        if self.price_per_hour is None or not self.video_seconds:
            return None
        return self.price_per_hour * self.running_seconds / self.video_seconds * 1000

    def add_unit(self, event: UnitDone) -> None:
        """Take what a worker did."""
        for stage, seconds in event.stage_seconds.items():
            self.stages[stage] += seconds
        self.video_seconds += event.video_seconds
        worker = Worker(host=event.host, pid=event.pid)
        worker = self.workers.setdefault((event.host, event.pid), worker)
        worker.num_rows += event.num_rows + sum(event.failures.values())
        worker.video_seconds += event.video_seconds
        worker.busy_seconds += event.wall_seconds
        slowest = [*self.slowest, *event.slowest]
        self.slowest = heapq.nlargest(_NUM_SLOWEST, slowest, key=attrgetter("seconds"))


def gather_facts(
    storage: Storage, status: Status, *, price_per_hour: float | None = None
) -> ReportFacts:
    """Read what the report says."""
    facts = ReportFacts(status=status, price_per_hour=price_per_hour)
    # When the work on rows began and ended, how many were scored and how many failed.
    units = array("d")

    def hear(started: float, now: float, event: Event) -> None:
        if isinstance(event, RowFailed):
            _keep_first(facts.first_failures, event.kind, event.id, event.video, event.message)
        elif isinstance(event, UnitDone):
            # Workers' clocks may differ, and a clock may be set back.
            end = max(0.0, now - started)
            start = max(0.0, end - event.wall_seconds)
            before, num_failed = facts.running_seconds, sum(event.failures.values())
            units.extend((before + start, before + end, event.num_rows, num_failed))
            facts.add_unit(event)

    for number, driver in read_attempts(storage).items():
        facts.first_failures = {}  # what failed before was tried again
        facts.attempts.append(Attempt(storage, number, driver, hear))
        facts.running_seconds += facts.attempts[-1].seconds
    # Rows that were not tried at all stand in the files alone, and these are there at rest alone.
    facts.first_failures = _errors_at_rest(storage) or facts.first_failures
    facts.bars = _bars(np.array(units).reshape(-1, 4), facts.running_seconds)
    busy = sum(worker.busy_seconds for worker in facts.workers.values())
    # Stages may overlap; then they have more seconds than there are.
    facts.stages[_NO_STAGE] = max(0.0, busy - facts.stages.pop(_ALL_STAGES, 0.0))
    return facts


def _bars(units: NDArray[np.float64], end: float) -> list[Bar]:
    """Return rows over time from 0 on; those of a unit count for all of the time that it took."""
    if not len(units):
        return []
    starts, ends, counts = units[:, 0], units[:, 1], units[:, 2:]
    width = _LEAST_BAR_SECONDS
    while ends.max() >= width * _NUM_BARS:
        width *= 2
    edges = [width * number for number in range(int(ends.max() / width) + 2)]
    # (bars + 1, 2): the rows that were scored, and that failed, before each edge.
    took = np.maximum(ends - starts, 1e-9)
    before = np.array([np.clip((edge - starts) / took, 0, 1) @ counts for edge in edges])
    bars = []
    for start, numbers in zip(edges, np.diff(before, axis=0).tolist(), strict=False):
        # The last one ends where the run does.
        seconds = max(end - start, width / 4) if start + width > end > start else width
        bars.append(Bar(start, seconds, *numbers))
    return bars


def _keep_first(first: FirstFailures, kind: str, *about: str) -> None:
    messages = first.setdefault(kind, [])
    if len(messages) < _NUM_FIRST:
        messages.append(about)


def _errors_at_rest(storage: Storage) -> FirstFailures:
    """Return the first errors of each kind that stand in files."""
    columns = ("error_kind", "id", "video", "error_message")
    first: FirstFailures = {}
    for name in final_names(storage, ERRORS):
        try:
            rows = read_shard(storage, name, columns).to_pylist()
        except (FileNotFoundError, ValueError):  # taken back meanwhile, or damaged
            continue
        for row in rows:
            _keep_first(first, *(str(row[column] or "") for column in columns))
    return first
