"""What a batch's report says: attempts, log and error rows of its run directory, summed up."""

from __future__ import annotations

import heapq
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.batch.attempts import read_attempts
from groundserve.batch.events import Finished, RowFailed, Started, UnitDone, UnitLost, VideoTime
from groundserve.batch.journal import Entry, read_journal
from groundserve.batch.status import Status
from groundserve.batch.storage import Storage

_NUM_BARS = 120
_LEAST_BAR_SECONDS = 0.5
_ALL_STAGES = "total"
"""The stage of an answer that is all of them, and what is between."""
_NO_STAGE = "outside: opening engines, fetching, writing"
_NUM_SLOWEST = 10
_NUM_FIRST = 5
_STATES = {
    "running": "running",
    "silent": "silent for long",
    "stopped": "stopped before its end",
    "finished": "finished",
}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One kind of failures."""

    kind: str
    num_rows: int
    first: Sequence[tuple[str, str, str]]
    """Row id, video and message of the first ones."""


@dataclass(kw_only=True)
class Attempt:
    """One run of the command on the directory."""

    number: int
    """From 1."""
    host: str
    started: float | None = None
    """Seconds since the epoch."""
    seconds: float = 0.0
    """From its start to the last sign of it."""
    num_scored: int = 0
    num_failed: int = 0
    """Rows that had an error at its end, also those that it did not try."""
    end: str = "ended before it was done"


@dataclass(kw_only=True)
class Worker:
    """One process that scored."""

    host: str
    pid: int
    num_rows: int = 0
    video_seconds: float = 0.0
    busy_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What happened between two moments."""

    start_seconds: float
    """From the start of the run, the time between two attempts left out."""
    seconds: float
    """Its length, above 0."""
    num_scored: float
    """Rows that succeeded; of a unit that took longer, its part of them."""
    num_failed: float


@dataclass(frozen=True, kw_only=True)
class ReportFacts:
    """All that a report says."""

    place: str
    state: str
    """Whether the job runs, is done or died, in words."""
    is_complete: bool
    """Whether each row of the manifest has an answer or an error."""
    num_rows: int
    num_scored: int
    num_failed: int
    video_seconds: float
    """Duration of the videos that were scored, each counted once an attempt."""
    running_seconds: float
    """That all attempts took together; the time between them left out."""
    failures: Sequence[Failure]
    """By kind, the most frequent first."""
    attempts: Sequence[Attempt]
    bars: Sequence[Bar]
    stage_seconds: Mapping[str, float]
    """Stage -> seconds of it in all workers."""
    workers: Sequence[Worker]
    slowest: Sequence[VideoTime]
    """The slowest first."""
    settings: Mapping[str, Any]
    """What the run is bound to: the engine's identity and all else that decides results."""
    checkpoint_note: str | None = None
    """What the checkpoint's author says of its scores."""
    price_per_hour: float | None = None
    """What all machines of the job cost together; None where nobody said."""

    @property
    def cost_per_1000_video_hours(self) -> float | None:
        """In the price's currency; None without a price, or where no video is scored yet."""
        if self.price_per_hour is None or not self.video_seconds:
            return None
        return self.price_per_hour * self.running_seconds / self.video_seconds * 1000


def gather_facts(
    storage: Storage, status: Status, *, price_per_hour: float | None = None
) -> ReportFacts:
    """Read what the report says; memory grows with workers and kinds of errors, not with rows."""
    log = _Log()
    for number, attempt in sorted(read_attempts(storage).items()):
        log.read(number, read_journal(storage, number), attempt)
    if log.attempts and status.state == "running":
        log.attempts[-1].end = "running"
    # Rows that were not tried at all stand in the files alone, and these are there at rest alone.
    first = _errors_at_rest(storage) or log.first_failures
    return ReportFacts(
        place=status.place,
        state=_STATES[status.state],
        is_complete=status.state == "finished",
        num_rows=status.num_rows or 0,
        num_scored=status.num_done,
        num_failed=status.num_failed,
        video_seconds=log.video_seconds,
        running_seconds=log.seconds,
        failures=[
            Failure(kind=kind, num_rows=number, first=first.get(kind, []))
            for kind, number in sorted(status.failures.items(), key=lambda it: (-it[1], it[0]))
        ],
        attempts=log.attempts,
        bars=_bars(np.array(log.units).reshape(-1, 4), log.seconds),
        stage_seconds=log.stages(),
        workers=[worker for _, worker in sorted(log.workers.items())],
        slowest=log.slowest,
        settings={"manifest": status.manifest, **(status.fingerprint or {})},
        checkpoint_note=status.checkpoint_note,
        price_per_hour=price_per_hour,
    )


class _Log:
    """All attempts' lines, summed up."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.units = array("d")
        """When the work on rows began and ended, how many were scored and how many failed."""
        self.first_failures: dict[str, list[tuple[str, str, str]]] = {}
        self.stage_seconds: defaultdict[str, float] = defaultdict(float)
        self.video_seconds = 0.0
        self.seconds = 0.0
        """That the attempts before the newest took."""
        self.slowest: list[VideoTime] = []
        self.workers: dict[tuple[str, int], Worker] = {}

    def read(self, number: int, entries: Iterable[Entry], driver: Mapping[str, Any]) -> None:
        started = driver.get("started")
        attempt = Attempt(
            number=number,
            host=str(driver.get("host", "")),
            started=float(started) if started is not None else None,
        )
        self.attempts.append(attempt)
        self.first_failures = {}  # what failed before was tried again
        for entry in entries:
            if attempt.started is None:
                attempt.started = entry.time
            attempt.seconds = max(attempt.seconds, entry.time - attempt.started)
            self._add(attempt, entry)
        self.seconds += attempt.seconds

    def stages(self) -> dict[str, float]:
        """Return the seconds of each stage, the longest first, and of the rest of the work."""
        stages = {k: v for k, v in self.stage_seconds.items() if k != _ALL_STAGES}
        busy = sum(worker.busy_seconds for worker in self.workers.values())
        # Stages may overlap; then they have more seconds than there are.
        stages[_NO_STAGE] = max(0.0, busy - self.stage_seconds[_ALL_STAGES])
        return dict(sorted(stages.items(), key=lambda item: -item[1]))

    def _add(self, attempt: Attempt, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, Started):
            attempt.num_failed = event.num_failed
        elif isinstance(event, RowFailed):
            _keep_first(self.first_failures, event.id, event.video, event.kind, event.message)
        elif isinstance(event, Finished):
            attempt.end = "finished"
            attempt.num_failed = event.num_failed
        elif isinstance(event, UnitLost) and event.is_alone:
            self._count(attempt, entry.time, 0.0, 0, event.num_rows)
        elif isinstance(event, UnitDone):
            num_failed = sum(event.failures.values())
            self._count(attempt, entry.time, event.wall_seconds, event.num_rows, num_failed)
            for stage, seconds in event.stage_seconds.items():
                self.stage_seconds[stage] += seconds
            self.video_seconds += event.video_seconds
            worker = Worker(host=event.host, pid=event.pid)
            worker = self.workers.setdefault((event.host, event.pid), worker)
            worker.num_rows += event.num_rows + num_failed
            worker.video_seconds += event.video_seconds
            worker.busy_seconds += event.wall_seconds
            slowest = [*self.slowest, *event.slowest]
            self.slowest = heapq.nlargest(_NUM_SLOWEST, slowest, key=attrgetter("seconds"))

    def _count(
        self, attempt: Attempt, now: float, took: float, num_scored: int, num_failed: int
    ) -> None:
        attempt.num_scored += num_scored
        attempt.num_failed += num_failed
        assert attempt.started is not None
        # Workers' clocks may differ, and a clock may be set back.
        end = max(0.0, now - attempt.started)
        start = self.seconds + max(0.0, end - took)
        self.units.extend((start, self.seconds + end, num_scored, num_failed))


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
    for start, (num_scored, num_failed) in zip(
        edges, np.diff(before, axis=0).tolist(), strict=False
    ):
        # The last one ends where the run does.
        seconds = max(end - start, width / 4) if start + width > end > start else width
        bars.append(
            Bar(start_seconds=start, seconds=seconds, num_scored=num_scored, num_failed=num_failed)
        )
    return bars


def _keep_first(
    first: dict[str, list[tuple[str, str, str]]], row_id: str, video: str, kind: str, message: str
) -> None:
    messages = first.setdefault(kind, [])
    if len(messages) < _NUM_FIRST:
        messages.append((row_id, video, message))


def _errors_at_rest(storage: Storage) -> dict[str, list[tuple[str, str, str]]]:
    """Return the first errors of each kind that stand in files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["id", "video", "error_kind", "error_message"]
    first: dict[str, list[tuple[str, str, str]]] = {}
    for name in storage.names("errors"):
        if not name.endswith(".parquet"):
            continue
        try:
            data = storage.read(f"errors/{name}")
        except FileNotFoundError:  # taken back meanwhile
            continue
        for row in pq.read_table(pa.BufferReader(data), columns=columns).to_pylist():
            _keep_first(first, *(str(row[column] or "") for column in columns))
    return first
