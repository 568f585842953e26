"""How far a run is, read from its directory without touching it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["empty", "running", "stalled", "stopped", "finished"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """A run as its directory shows it."""

    place: str
    state: State
    """"empty": no run was begun. "running": the driver lives, or wrote lately. "stalled": it runs
    on another machine and has been silent for long. "stopped": it has ended without finishing.
    "finished": each row has an answer or an error."""
    attempt: int
    """The newest, 0 where there is none."""
    host: str | None
    pid: int | None
    started: float | None
    """Of the newest attempt, seconds since the epoch."""
    last_heartbeat: float | None
    """Seconds since the epoch."""
    num_rows: int | None
    """None until an attempt has planned its work."""
    num_done: int
    num_failed: int
    """Rows with an error: at rest, or of the attempt under way."""
    num_left: int | None
    failures: Mapping[str, int]
    """Those by kind."""
    rows_per_second: float | None
    """Of the newest attempt, over its last minutes; None before its first unit."""
    video_hours: float
    """Answered in the newest attempt."""
    eta_seconds: float | None
    manifest: str | None
    fingerprint: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return a plain object."""
        raise NotImplementedError


def read_status(place: str) -> Status:
    """Read a run directory: of a run that goes on, is dead, is finished or was never begun.

    Raises:
        InvalidRequestError: There is something else, or nothing can be read.
    """
    raise NotImplementedError
