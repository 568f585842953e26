"""How far a batch is, counted from its events: rows, failures, rates, and the time left."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from groundserve.batch.events import Event, Finished, Started, UnitDone

_SAMPLES_EACH = 12
"""Publications of each worker that a rate is of: of a job's first quarter of an hour the last half,
as it publishes more and more seldom."""


class Tally:
    """Counts of one attempt.

    Rates are those of the latest publications up to this moment: they follow a job that becomes
    slower, and fall while nothing comes back. The first answer of each worker took as long as its
    start, and counts for none.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock; all counts are 0 until `Started` is added."""
        self._clock = clock
        self._start = clock()
        self._samples: deque[tuple[float, int, float]] = deque()
        """Moments, rows answered and durations of their videos until then."""
        self._num_starting = 1
        self._num_before = 0
        self.step = "starting"
        """What is done before rows are counted."""
        self.num_rows: int | None = None
        """Rows of the manifest; None until they are counted."""
        self.num_done = 0
        """Rows with an answer, those of earlier attempts too."""
        self.num_scored = 0
        """Rows that this attempt gave an answer."""
        self.num_answered = 0
        """Rows that this attempt gave an answer or an error."""
        self.failures: Counter[str] = Counter()
        """Rows that have no answer, by kind: of this attempt, or not tried in it."""
        self.video_seconds = 0.0
        """Durations of the videos that this attempt scored."""

    def add(self, event: Event) -> None:
        """Count what has happened."""
        match event:
            case Started():
                self._start = self._clock()
                self._num_starting = max(1, event.workers)
                self._samples = deque(maxlen=_SAMPLES_EACH * self._num_starting)
                self.num_rows = event.num_rows
                self.num_done = event.num_done
                self.failures = Counter(event.failures)
                self._num_before = event.num_done + event.num_failed
            case UnitDone():
                self.num_done += event.num_rows
                self.num_scored += event.num_rows
                self.failures.update(event.failures)
                self.num_answered += event.num_rows + sum(event.failures.values())
                self.video_seconds += event.video_seconds
                self._num_starting -= 1
                if self._num_starting <= 0:
                    self._samples.append((self._clock(), self.num_answered, self.video_seconds))
            case Finished():
                self.num_rows = event.num_done + event.num_failed
                self.num_done = event.num_done
                self.failures = Counter(event.failures)

    @property
    def num_finished(self) -> int:
        """Rows with an answer or an error, those of earlier attempts too."""
        return self._num_before + self.num_answered

    @property
    def num_failed(self) -> int:
        """Rows that have no answer."""
        return self.failures.total()

    @property
    def rows_per_second(self) -> float | None:
        """None until the workers have started; at the end, that of the whole attempt."""
        return self._rates()[0]

    @property
    def video_hours_per_second(self) -> float | None:
        """As `rows_per_second`."""
        return self._rates()[1]

    @property
    def eta_seconds(self) -> float | None:
        """Time left at the rate of now; None while there is none."""
        rate = self.rows_per_second
        if self.num_rows is None or not rate:
            return None
        return (self.num_rows - self.num_finished) / rate

    def _rates(self) -> tuple[float, float] | tuple[None, None]:
        if self.num_rows is not None and self.num_finished >= self.num_rows:
            begun, num_rows, video_seconds = self._start, 0, 0.0
        elif self._samples:
            begun, num_rows, video_seconds = self._samples[0]
        else:
            return None, None
        seconds = self._clock() - begun
        if seconds <= 0:
            return None, None
        hours = (self.video_seconds - video_seconds) / 3600
        return (self.num_answered - num_rows) / seconds, hours / seconds


def describe(tally: Tally) -> str:
    """Return one line that says how far it is."""
    if tally.num_rows is None:
        return tally.step
    counts = f"{tally.num_finished} of {tally.num_rows} rows, {tally.num_failed} failed"
    return f"{counts}, {describe_rates(tally)}"


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
