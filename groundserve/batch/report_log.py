"""A batch's report from its run directory: attempts, log and error rows, summed up."""

from __future__ import annotations

import heapq
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from groundserve.batch.attempts import read_attempts
from groundserve.batch.events import Finished, RowFailed, Started, UnitDone, UnitLost
from groundserve.batch.journal import Entry, read_journal
from groundserve.batch.report import render_report
from groundserve.batch.report_charts import Bar
from groundserve.batch.report_facts import Attempt, Failure, ReportFacts, SlowVideo, Worker
from groundserve.batch.status import Status, read_status
from groundserve.batch.storage import Storage, open_storage

REPORT_NAME = "report.html"
_NUM_BARS = 120
_LEAST_BAR_SECONDS = 0.5
_ALL_STAGES = "total"
"""Of the stages of an answer: all of them, and what is between."""
_NO_STAGE = "outside: opening engines, fetching, writing"
_NUM_SLOWEST = 10
_NUM_FIRST = 5
_STATES = {
    "running": "running",
    "silent": "silent for long",
    "stopped": "stopped before its end",
    "finished": "finished",
}


def write_report(place: str, *, price_per_hour: float | None = None) -> str:
    """Write DIR/report.html from what is in DIR, of a run that goes on, is dead or done.

    Args:
        place: The run directory.
        price_per_hour: Of all machines of the job together; None: no cost is told.

    Returns:
        The report's place.

    Raises:
        InvalidRequestError: See `read_status`.
        RunDirectoryError: It cannot be written.
    """
    status = read_status(place)
    storage = open_storage(place)
    facts = gather_facts(storage, status, price_per_hour=price_per_hour)
    page = render_report(facts, made=_utc(time.time()))
    storage.write(REPORT_NAME, page.encode("utf-8"))
    return f"{storage.place}/{REPORT_NAME}"


def gather_facts(
    storage: Storage, status: Status, *, price_per_hour: float | None = None
) -> ReportFacts:
    """Read what the report says; memory grows with workers and kinds of errors, not with rows."""
    log = _Log()
    for number, attempt in sorted(read_attempts(storage).items()):
        log.read(number, read_journal(storage, number), attempt)
    if log.attempts and status.state == "running":
        log.attempts[-1].end = "running"
    failures = _Failures()
    # Rows that were not tried at all stand in the files alone, and these are there at rest alone.
    for row_id, video, kind, message in _error_rows(storage):
        failures.add(row_id, video, kind, message)
    if not failures.counts:
        failures = log.failures
    return ReportFacts(
        place=status.place,
        state=_STATES[status.state],
        is_complete=status.state == "finished",
        num_rows=status.num_rows or 0,
        num_scored=status.num_done,
        num_failed=status.num_failed,
        video_seconds=log.video_seconds,
        running_seconds=log.seconds,
        failures=failures.by_kind(status.failures),
        attempts=[one.as_fact() for one in log.attempts],
        bars=log.bars.as_facts(log.seconds),
        attempt_starts=[(one.offset, f"attempt {one.number}") for one in log.attempts],
        stage_seconds=log.stages(),
        workers=[one for _, one in sorted(log.workers())],
        slowest=[one for _, _, one in sorted(log.slowest, reverse=True)],
        settings={
            "manifest": status.manifest,
            **(status.fingerprint or {}),
        },
        checkpoint_note=status.checkpoint_note,
        price_per_hour=price_per_hour,
    )


@dataclass
class _Attempt:
    number: int
    offset: float
    """Seconds that the attempts before it took."""
    host: str
    started: float | None = None
    last: float = 0.0
    num_scored: int = 0
    num_failed: int = 0
    end: str = "ended before it was done"

    @property
    def seconds(self) -> float:
        return max(0.0, self.last - self.started) if self.started is not None else 0.0

    def as_fact(self) -> Attempt:
        return Attempt(
            number=self.number,
            started=_utc(self.started) if self.started is not None else "",
            host=self.host,
            seconds=self.seconds,
            num_scored=self.num_scored,
            num_failed=self.num_failed,
            end=self.end,
        )


@dataclass
class _Failures:
    """The first errors of each kind."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)

    def add(self, row_id: str, video: str, kind: str, message: str) -> None:
        self.counts[kind] += 1
        first = self.first.setdefault(kind, [])
        if len(first) < _NUM_FIRST:
            first.append((row_id, video, message))

    def by_kind(self, counts: Mapping[str, int]) -> list[Failure]:
        """Return the kinds, the most frequent first, as often as the run's status counts them."""
        kinds = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [
            Failure(kind=kind, num_rows=number, first=self.first.get(kind, ()))
            for kind, number in kinds
        ]


class _Bars:
    """Rows over time, in bars that become twice as wide whenever there would be too many."""

    def __init__(self) -> None:
        self._width = _LEAST_BAR_SECONDS
        self._counts: dict[int, tuple[float, float]] = {}

    def add(self, start: float, end: float, num_scored: int, num_failed: int) -> None:
        """Add rows that were worked on from one moment to another; they count for all of it."""
        while end >= self._width * _NUM_BARS:
            self._width *= 2
            merged: dict[int, tuple[float, float]] = {}
            for number, counts in self._counts.items():
                merged[number // 2] = _sum(merged.get(number // 2, (0, 0)), counts)
            self._counts = merged
        for number in range(int(start / self._width), int(end / self._width) + 1):
            left, right = number * self._width, (number + 1) * self._width
            inside = min(end, right) - max(start, left)
            share = inside / (end - start) if end > start else 1.0
            counts = (num_scored * share, num_failed * share)
            self._counts[number] = _sum(self._counts.get(number, (0, 0)), counts)

    def as_facts(self, end: float) -> list[Bar]:
        """Return all bars from 0 on; the last one ends where the run does."""
        bars = []
        for number in range(max(self._counts, default=-1) + 1):
            start = number * self._width
            num_scored, num_failed = self._counts.get(number, (0, 0))
            is_last = start + self._width > end > start
            bars.append(
                Bar(
                    start_seconds=start,
                    seconds=max(end - start, self._width / 4) if is_last else self._width,
                    num_scored=num_scored,
                    num_failed=num_failed,
                )
            )
        return bars


class _Log:
    """All attempts' lines, summed up."""

    def __init__(self) -> None:
        self.attempts: list[_Attempt] = []
        self.bars = _Bars()
        self.failures = _Failures()
        self.stage_seconds: defaultdict[str, float] = defaultdict(float)
        self.video_seconds = 0.0
        self.seconds = 0.0
        self.slowest: list[tuple[float, int, SlowVideo]] = []
        self._workers: dict[tuple[str, int], list[float]] = {}
        self._num_videos = 0

    def read(self, number: int, entries: Iterable[Entry], driver: Mapping[str, Any]) -> None:
        started = driver.get("started")
        attempt = _Attempt(
            number=number,
            offset=self.seconds,
            host=str(driver.get("host", "")),
            started=float(started) if started is not None else None,
        )
        self.attempts.append(attempt)
        self.failures = _Failures()  # what failed before was tried again
        for entry in entries:
            if attempt.started is None:
                attempt.started = entry.time
            attempt.last = max(attempt.last, entry.time)
            self._add(attempt, entry)
        self.seconds += attempt.seconds

    def stages(self) -> dict[str, float]:
        """Return the seconds of each stage, the longest first, and of the rest of the work."""
        stages = {k: v for k, v in self.stage_seconds.items() if k != _ALL_STAGES}
        busy = sum(seconds for _, _, seconds in self._workers.values())
        # Stages may overlap; then they have more seconds than there are.
        stages[_NO_STAGE] = max(0.0, busy - self.stage_seconds[_ALL_STAGES])
        return dict(sorted(stages.items(), key=lambda item: -item[1]))

    def workers(self) -> Iterator[tuple[tuple[str, int], Worker]]:
        for (host, pid), (num_rows, video_seconds, busy) in self._workers.items():
            worker = Worker(
                host=host,
                pid=pid,
                num_rows=int(num_rows),
                video_seconds=video_seconds,
                busy_seconds=busy,
            )
            yield (host, pid), worker

    def _add(self, attempt: _Attempt, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, Started):
            attempt.end = "ended before it was done"
            attempt.num_failed = event.num_failed
        elif isinstance(event, RowFailed):
            self.failures.add(event.id, event.video, event.kind, event.message)
        elif isinstance(event, Finished):
            attempt.end = "finished"
            attempt.num_failed = event.num_failed
        elif isinstance(event, UnitLost) and event.is_alone:
            self._count(attempt, entry, 0, event.num_rows)
        elif isinstance(event, UnitDone):
            num_failed = sum(event.failures.values())
            self._count(attempt, entry, event.num_rows, num_failed)
            for stage, seconds in event.stage_seconds.items():
                self.stage_seconds[stage] += seconds
            self.video_seconds += event.video_seconds
            sums = self._workers.setdefault((event.host, event.pid), [0, 0.0, 0.0])
            sums[0] += event.num_rows + num_failed
            sums[1] += event.video_seconds
            sums[2] += event.wall_seconds
            for one in event.slowest:
                self._num_videos += 1  # so that no two videos are compared
                slow = SlowVideo(
                    video=one.video,
                    seconds=one.seconds,
                    num_rows=one.num_rows,
                    video_seconds=one.video_seconds,
                )
                heapq.heappush(self.slowest, (one.seconds, -self._num_videos, slow))
                if len(self.slowest) > _NUM_SLOWEST:
                    heapq.heappop(self.slowest)

    def _count(self, attempt: _Attempt, entry: Entry, num_scored: int, num_failed: int) -> None:
        attempt.num_scored += num_scored
        attempt.num_failed += num_failed
        assert attempt.started is not None
        # Workers' clocks may differ, and a clock may be set back.
        end = max(0.0, entry.time - attempt.started)
        took = entry.event.wall_seconds if isinstance(entry.event, UnitDone) else 0.0
        offset = attempt.offset
        self.bars.add(offset + max(0.0, end - took), offset + end, num_scored, num_failed)


def _error_rows(storage: Storage) -> Iterator[tuple[str, str, str, str]]:
    """Yield id, video, kind and message of the errors at rest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["id", "video", "error_kind", "error_message"]
    for name in storage.names("errors"):
        if not name.endswith(".parquet"):
            continue
        try:
            data = storage.read(f"errors/{name}")
        except FileNotFoundError:  # taken back meanwhile
            continue
        table = pq.read_table(pa.BufferReader(data), columns=columns)
        for row in table.to_pylist():
            yield tuple(str(row[column] or "") for column in columns)  # type: ignore[misc]  # four


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _sum(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return one[0] + other[0], one[1] + other[1]
