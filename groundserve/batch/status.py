"""How far a run is, read from its directory without touching it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from groundserve.batch.attempts import process_mark, read_attempts
from groundserve.batch.events import Event, Finished
from groundserve.batch.journal import HEARTBEAT_SECONDS, REMOTE_HEARTBEAT_SECONDS, read_journal
from groundserve.batch.keys import Fingerprint
from groundserve.batch.progress import Tally
from groundserve.batch.run_directory import FINGERPRINT
from groundserve.run_store import find_run
from groundserve.storage import Storage, open_storage

State = Literal["empty", "running", "silent", "stopped", "finished"]

_SILENT_PERIODS = 6
"""Heartbeats that a driver on another machine may miss."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """A run as its directory shows it."""

    place: str
    state: State
    """"empty": no run was begun. "running": the driver lives, or wrote lately. "silent": it is on
    another machine and wrote nothing for long. "stopped": it has ended before its work was done.
    "finished": each row has an answer or an error."""
    attempt: int = 0
    """The newest, 0 where there is none."""
    host: str | None = None
    pid: int | None = None
    started: float | None = None
    last_heartbeat: float | None = None
    num_rows: int | None = None
    """None until an attempt has planned its work."""
    num_done: int = 0
    num_failed: int = 0
    """Rows with an error, in the newest attempt."""
    num_left: int | None = None
    """Rows with neither."""
    failures: Mapping[str, int] = field(default_factory=dict)
    rows_per_second: float | None = None
    """None until the workers of the newest attempt have started."""
    video_hours: float = 0.0
    eta_seconds: float | None = None
    """Until nothing is left, at this rate; None where nothing runs."""
    manifest: str | None = None
    """Where the newest attempt has its rows from: absolute path or URL."""
    checkpoint_note: str | None = None
    fingerprint: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a plain object."""
        return asdict(self)


def read_status(place: str) -> Status:
    """Read a run directory: of a run that goes on, is dead, is finished or was never begun.

    Raises:
        InvalidRequestError: There is something else, or nothing at all.
        RunDirectoryError: It cannot be read.
    """
    storage = open_storage(place)
    run = find_run(storage, FINGERPRINT)
    if run is None:
        return Status(place=storage.place, state="empty")
    Fingerprint.from_json(run[FINGERPRINT])
    drivers = read_attempts(storage)
    attempts = [Attempt(storage, *driver) for driver in (drivers or {0: {}}).items()]
    planned = [one.tally for one in attempts if one.tally.num_rows is not None]
    last = attempts[-1]
    num_done = (planned or [last.tally])[-1].num_done
    driver, tally, heartbeat = last.driver, last.tally, last.now or None
    state: State = "stopped"
    if drivers:
        state = "finished" if last.is_finished else _state(storage, driver, heartbeat)
    if state == "running":
        last.now = max(last.now, time.time())
    num_left = None
    if tally.num_rows is not None:
        num_left = max(tally.num_rows - num_done - tally.num_failed, 0)
    return Status(
        place=storage.place,
        state=state,
        attempt=last.number,
        host=driver.get("host"),
        pid=driver.get("pid"),
        started=driver.get("started"),
        last_heartbeat=heartbeat,
        num_rows=tally.num_rows,
        num_done=num_done,
        num_failed=tally.num_failed,
        num_left=num_left,
        failures=dict(sorted(tally.failures.items())),
        rows_per_second=None if tally.num_rows is None else tally.rows_per_second,
        video_hours=tally.video_seconds / 3600,
        eta_seconds=tally.eta_seconds if num_left and state == "running" else None,
        manifest=driver.get("manifest", run.get("manifest")),
        checkpoint_note=run.get("checkpoint_note"),
        fingerprint=run[FINGERPRINT],
    )


class Attempt:
    """One run of the command on a directory, counted as the bar counts: the same events."""

    def __init__(
        self,
        storage: Storage,
        number: int,
        driver: Mapping[str, Any],
        hear: Callable[[float, float, Event], None] = lambda started, now, event: None,
    ) -> None:
        """Read its journal; `hear` is called with its start, the moment and each event."""
        self.number = number
        self.driver = driver
        self.started: float | None = driver.get("started")
        """Seconds since the epoch."""
        self.now = 0.0
        """The last sign of it."""
        self.is_finished = False
        self.tally = Tally(clock=lambda: self.now)
        for self.now, event in read_journal(storage, number):
            if self.started is None:
                self.started = self.now
            if event is not None:
                self.tally.add(event)
                self.is_finished |= isinstance(event, Finished)
                hear(self.started, self.now, event)

    @property
    def seconds(self) -> float:
        """From its start to the last sign of it; a clock may have been set back meanwhile."""
        return max(0.0, self.now - (self.started or self.now))


def _state(storage: Storage, driver: Mapping[str, Any], last: float | None) -> State:
    if driver.get("host") == socket.gethostname():
        mark = process_mark(driver["pid"])
        return "running" if mark is not None and mark == driver.get("process") else "stopped"
    period = HEARTBEAT_SECONDS if storage.is_local else REMOTE_HEARTBEAT_SECONDS
    since = time.time() - (last or float(driver.get("started") or 0.0))
    return "running" if since < _SILENT_PERIODS * period else "silent"
