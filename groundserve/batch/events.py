"""What happens in a run, as the journal, the progress bar and the report hear of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, kw_only=True)
class Started:
    """An attempt has planned its work."""

    num_rows: int
    """In the manifest."""
    num_done: int
    """Rows answered before."""
    num_failed: int
    """Rows that will not be tried: broken, missing, too large, or tried often enough."""
    num_to_do: int
    """Rows left."""
    num_groups: int
    """Videos left."""
    workers: int
    """Processes that score."""
    manifest: str
    """Its place."""


@dataclass(frozen=True, kw_only=True)
class UnitDone:
    """A unit's answers were published."""

    unit: int
    num_rows: int
    """Rows with an answer."""
    failures: Mapping[str, int]
    """Rows without, by kind."""
    num_videos: int
    num_decoded: int
    """Calls that decoded and encoded; the others had their features from the cache."""
    num_calls: int
    video_seconds: float
    """Durations of the videos answered."""
    stage_seconds: Mapping[str, float]
    """Wall seconds by stage, summed over calls."""
    started: float
    """Seconds since the epoch."""
    wall_seconds: float
    host: str
    pid: int
    shard: str | None
    """Name below the run directory; None where no row has an answer."""
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class UnitLost:
    """A worker died, or its node, while it had a unit."""

    unit: int
    num_rows: int
    is_alone: bool
    """Whether it was the second time, the video alone: its rows have failed then."""
    message: str
    """What was seen of it."""


@dataclass(frozen=True, kw_only=True)
class RowFailed:
    """A row has no answer in this attempt."""

    id: str
    row_key: str
    kind: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Said:
    """Something the user should know, such as a shard that was damaged."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An attempt has ended by itself."""

    num_done: int
    """Rows with an answer, of all attempts."""
    num_failed: int
    """Rows with an error."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Those by kind."""
    wall_seconds: float = 0.0
    """Of this attempt."""


Event: TypeAlias = Started | UnitDone | UnitLost | RowFailed | Said | Finished


def to_json(event: Event, *, time: float) -> dict[str, Any]:
    """Return a line of the journal: {"event": "unit_done", "time": seconds, ...fields}."""
    raise NotImplementedError


def from_json(values: dict[str, Any]) -> Event | None:
    """Read a line back; None for one of another version."""
    raise NotImplementedError
