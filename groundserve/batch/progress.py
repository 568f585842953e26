"""How far a batch is, counted from its events: rows, failures, rates, and the time left."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from groundserve.batch.events import Event, Finished, Started, UnitDone, UnitLost

_HOUR = 3600.0
_NUM_SAMPLES = 500


@dataclass(frozen=True, kw_only=True)
class _Sample:
    seconds: float
    num_rows: int
    video_seconds: float


class Tally:
    """Counts of one attempt.

    Rates are those of the last half of the time since all workers are at work, up to this moment:
    they follow a job that becomes slower, and fall while nothing comes back. The first answer of
    each worker took as long as its start, and counts for none.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock; all counts are 0 until `Started` is added."""
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()  # whoever shows the tally reads it in a thread of its own
        self._first = self._start
        """When the workers had started: the first sample's moment."""
        self._samples: deque[_Sample] = deque()
        self._lost: dict[int, int] = {}
        self.num_answered = 0
        """Rows that this attempt gave an answer or an error."""
        self.video_seconds = 0.0
        """Durations of the videos that it scored."""
        self._num_before = 0
        self._num_starting = 1
        self.step = "starting"
        """What is done before rows are counted."""
        self.num_rows: int | None = None
        """Rows of the manifest; None until they are counted."""
        self.num_failed = 0
        """Rows that have no answer: of this attempt, or not tried in it."""

    def add(self, event: Event) -> None:
        """Count what has happened."""
        if isinstance(event, Started):
            self._start = self._clock()
            self._num_starting = max(1, event.workers)
            self.num_rows = event.num_rows
            self.num_failed = event.num_failed
            self._num_before = event.num_done + event.num_failed
        elif isinstance(event, UnitDone):
            num_failed = sum(event.failures.values())
            self.num_failed += num_failed
            self._answer(event.unit, event.num_rows + num_failed, event.video_seconds)
        elif isinstance(event, UnitLost):
            if event.is_alone:
                self.num_failed += event.num_rows
                self._answer(event.unit, event.num_rows, 0.0)
            else:
                self._lost[event.unit] = event.num_rows
        elif isinstance(event, Finished):
            self.num_failed = event.num_failed

    @property
    def num_finished(self) -> int:
        """Rows with an answer or an error, those of earlier attempts too."""
        return self._num_before + self.num_answered

    @property
    def num_lost(self) -> int:
        """Rows whose worker died, and which are tried once more."""
        return sum(self._lost.values())

    @property
    def elapsed_seconds(self) -> float:
        """Since the work was planned."""
        return self._clock() - self._start

    @property
    def rows_per_second(self) -> float | None:
        """None until the workers have started; at the end, that of the whole attempt."""
        return self._rate("num_rows", self.num_answered)

    @property
    def video_hours_per_second(self) -> float | None:
        """As `rows_per_second`."""
        rate = self._rate("video_seconds", self.video_seconds)
        return None if rate is None else rate / _HOUR

    @property
    def eta_seconds(self) -> float | None:
        """Time left at the rate of now; None while there is none."""
        rate = self.rows_per_second
        if self.num_rows is None or not rate:
            return None
        return (self.num_rows - self.num_finished) / rate

    def _answer(self, unit: int, num_rows: int, video_seconds: float) -> None:
        if unit in self._lost:
            self._lost[unit] = max(0, self._lost[unit] - num_rows)
        self.num_answered += num_rows
        self.video_seconds += video_seconds
        if self._num_starting:
            self._num_starting -= 1
            if self._num_starting:
                return
            self._first = self._clock()
        elapsed = self._clock() - self._first
        sample = _Sample(
            seconds=elapsed, num_rows=self.num_answered, video_seconds=self.video_seconds
        )
        if len(self._samples) > 1 and elapsed - self._samples[-2].seconds < elapsed / _NUM_SAMPLES:
            self._samples[-1] = sample  # so that a long job keeps no more than some hundreds
        else:
            self._samples.append(sample)
        self._forget(elapsed)

    def _rate(self, name: str, now: float) -> float | None:
        """Return by how much a count of the samples grew a second, over the last half."""
        if self.num_rows is not None and self.num_finished >= self.num_rows:
            seconds, before = self.elapsed_seconds, 0.0
        elif not self._samples:
            return None
        else:
            seconds = self._clock() - self._first
            self._forget(seconds)
            # The newest sample from before the half began; the first one is at its start.
            first = self._samples[0]
            seconds, before = seconds - first.seconds, getattr(first, name)
        return float((now - before) / seconds) if seconds > 0 else None

    def _forget(self, elapsed: float) -> None:
        """Drop what was counted before the last half, but for the newest of it."""
        with self._lock:
            while len(self._samples) > 1 and self._samples[1].seconds <= elapsed / 2:
                self._samples.popleft()


def describe(tally: Tally) -> str:
    """Return one line that says how far it is."""
    if tally.num_rows is None:
        return tally.step
    parts = [f"{tally.num_finished} of {tally.num_rows} rows", f"{tally.num_failed} failed"]
    if tally.num_lost:
        parts.append(f"{tally.num_lost} to try again")
    return ", ".join([*parts, describe_rates(tally)])


def describe_rates(tally: Tally) -> str:
    """Return the rates and the time left; a hyphen where there are none yet."""
    rows, hours, eta = tally.rows_per_second, tally.video_hours_per_second, tally.eta_seconds
    return ", ".join(
        (
            f"{rows:.3g} rows/s" if rows is not None else "- rows/s",
            f"{hours:.2g} video hours/s" if hours is not None else "- video hours/s",
            f"ETA {clock_text(eta) if eta is not None else '-'}",
        )
    )


def clock_text(seconds: float) -> str:
    """Return `h:mm:ss`, with days before it from one day on."""
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    text = f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{days} d {text}" if days else text
