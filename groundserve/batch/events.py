"""What happens in a run, as the journal, the progress bar and the report hear of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple, TypeAlias, get_args


@dataclass(frozen=True, kw_only=True)
class Started:
    """An attempt has planned its work."""

    num_rows: int
    """The sum of the three below it."""
    num_done: int
    """Rows answered before."""
    num_failed: int
    """Rows that will not be tried: broken, missing, too large, or tried often enough."""
    num_to_do: int
    num_groups: int
    """Videos of those, each with its sampling options."""
    workers: int
    manifest: str
    failures: Mapping[str, int] = field(default_factory=dict)


class VideoTime(NamedTuple):
    """How long a video took."""

    video: str
    seconds: float
    num_rows: int
    video_seconds: float
    """Its duration; 0 where no row has an answer."""


@dataclass(kw_only=True)
class UnitDone:
    """What one worker has done was published."""

    unit: int
    num_rows: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    """Rows without an answer, by kind."""
    num_videos: int = 0
    num_decoded: int = 0
    """Calls that decoded and encoded; the others had their features from the cache."""
    num_calls: int = 0
    video_seconds: float = 0.0
    """Durations of the videos answered."""
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds by stage, summed over calls."""
    started: float
    wall_seconds: float = 0.0
    host: str
    pid: int
    shard: str | None = None
    """Name below the run directory; None where no row has an answer."""
    num_bytes: int = 0
    sha256: str = ""
    """The file's, which may hold what other workers have done, too."""
    slowest: tuple[VideoTime, ...] = ()
    """The videos that took longest, the slowest first; a few."""

    def __post_init__(self) -> None:
        self.slowest = tuple(VideoTime(*one) for one in self.slowest)  # JSON has lists


@dataclass(frozen=True, kw_only=True)
class UnitLost:
    """A worker died, or its node; its video is tried once more."""

    unit: int
    num_rows: int
    message: str


@dataclass(frozen=True, kw_only=True)
class RowFailed:
    """A row has no answer in this attempt."""

    id: str
    row_key: str
    kind: str
    message: str
    video: str = ""


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
    failures: Mapping[str, int] = field(default_factory=dict)
    wall_seconds: float = 0.0


Event: TypeAlias = Started | UnitDone | UnitLost | RowFailed | Said | Finished


def to_json(event: Event) -> dict[str, Any]:
    """Return a plain object: {"event": "unit_done", ...fields}."""
    return {"event": _name(type(event)), **asdict(event)}


def from_json(values: Mapping[str, Any]) -> Event | None:
    """Read it back; None for a kind that this version does not know."""
    kind = _KINDS.get(str(values.get("event")))
    if kind is None:
        return None
    try:
        return kind(**{it.name: values[it.name] for it in fields(kind) if it.name in values})
    except TypeError:  # another version's, without a field that this one needs
        return None


def _name(kind: type) -> str:
    return re.sub("(?<!^)([A-Z])", r"_\1", kind.__name__).lower()


_KINDS: Mapping[str, type[Event]] = {_name(kind): kind for kind in get_args(Event)}
