"""What a batch's report says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundserve.batch.report_charts import Bar


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One kind of failures."""

    kind: str
    """See `groundserve.batch.errors`."""
    num_rows: int
    """How many rows failed so."""
    first: Sequence[tuple[str, str, str]]
    """Row id, video and message of the first ones."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run of the command on the directory."""

    number: int
    """From 1."""
    started: str
    """When, in UTC."""
    host: str
    """Where the command ran."""
    seconds: float
    """From its start to the last sign of it."""
    num_scored: int
    """Rows that succeeded in it."""
    num_failed: int
    """Rows that had an error at its end, also those that it did not try."""
    end: str
    """How it ended, in words."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One process that scored."""

    host: str
    """The machine."""
    pid: int
    """Its process id there."""
    num_rows: int
    """Rows that it gave an answer or an error."""
    video_seconds: float
    """Of the videos that it scored."""
    busy_seconds: float
    """That it spent on rows."""


@dataclass(frozen=True, kw_only=True)
class SlowVideo:
    """A video that took long."""

    video: str
    """As the manifest names it."""
    seconds: float
    """That scoring all of its rows took."""
    num_rows: int
    """How many rows it has."""
    video_seconds: float
    """Its duration; 0 where it is not known."""


@dataclass(frozen=True, kw_only=True)
class ReportFacts:
    """All that a report says."""

    place: str
    """The run directory."""
    state: str
    """Whether the job runs, is done or died, in words."""
    is_complete: bool
    """Whether each row of the manifest has an answer or an error."""
    num_rows: int
    """Of the manifest."""
    num_scored: int
    """Rows with an answer."""
    num_failed: int
    """Rows with an error."""
    video_seconds: float
    """Duration of the videos that were scored, each counted once an attempt."""
    running_seconds: float
    """That all attempts took together; the time between them left out."""
    failures: Sequence[Failure]
    """By kind, the most frequent first."""
    attempts: Sequence[Attempt]
    """In order."""
    bars: Sequence[Bar]
    """Rows over time."""
    attempt_starts: Sequence[tuple[float, str]]
    """Where each attempt begins in the time of `bars`, and its name."""
    stage_seconds: Mapping[str, float]
    """Stage -> seconds of it in all workers."""
    workers: Sequence[Worker]
    """All that answered."""
    slowest: Sequence[SlowVideo]
    """The slowest first."""
    settings: Mapping[str, Any]
    """What the run is bound to: the engine's identity and all else that decides results."""
    checkpoint_note: str | None = None
    """What the checkpoint's author says of its scores."""
    price_per_hour: float | None = None
    """Of all machines of the job together; None where nobody said."""

    @property
    def cost_per_1000_video_hours(self) -> float | None:
        """In the price's currency; None without a price, or where no video is scored yet."""
        if self.price_per_hour is None or not self.video_seconds:
            return None
        return self.price_per_hour * self.running_seconds / self.video_seconds * 1000
