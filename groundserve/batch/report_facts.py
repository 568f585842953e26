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
    num_rows: int
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
    seconds: float
    """From its start to the last sign of it."""
    num_scored: int
    num_failed: int
    """Rows that had an error at its end, also those that it did not try."""
    end: str


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One process that scored."""

    host: str
    pid: int
    num_rows: int
    """Rows that it gave an answer or an error."""
    video_seconds: float
    """Of the videos that it scored."""
    busy_seconds: float


@dataclass(frozen=True, kw_only=True)
class SlowVideo:
    """A video that took long."""

    video: str
    seconds: float
    """That scoring all of its rows took."""
    num_rows: int
    video_seconds: float
    """Its duration; 0 where it is not known."""


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
    attempt_starts: Sequence[tuple[float, str]]
    """Where each attempt begins in the time of `bars`, and its name."""
    stage_seconds: Mapping[str, float]
    """Stage -> seconds of it in all workers."""
    workers: Sequence[Worker]
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
