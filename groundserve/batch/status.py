"""How far a run is, read from its directory without touching it."""

from __future__ import annotations

import contextlib
import io
import socket
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from groundserve.batch.attempts import process_mark, read_attempts
from groundserve.batch.events import Finished, RowFailed, Started, UnitDone
from groundserve.batch.journal import (
    HEARTBEAT_SECONDS,
    REMOTE_HEARTBEAT_SECONDS,
    read_journal,
)
from groundserve.batch.progress import Tally
from groundserve.batch.run_directory import find_run
from groundserve.batch.shards import SCORES, final_names
from groundserve.batch.storage import Storage, open_storage

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
    run = find_run(storage)
    if run is None:
        return Status(place=storage.place, state="empty")
    attempts = read_attempts(storage)
    if not attempts:
        return Status(
            place=storage.place,
            state="stopped",
            manifest=run.get("manifest"),
            checkpoint_note=run.get("checkpoint_note"),
            fingerprint=run["fingerprint"],
        )
    newest = max(attempts)
    return _status(storage, run, newest, attempts[newest], known=_shard_sizes(storage, attempts))


def _status(
    storage: Storage,
    run: Mapping[str, Any],
    attempt: int,
    driver: Mapping[str, Any],
    *,
    known: Mapping[str, int],
) -> Status:
    started: Started | None = None
    finished: Finished | None = None
    failures: Counter[str] = Counter()
    last = None
    now = 0.0
    # The bar's own count, fed with the same events at the same moments.
    tally = Tally(clock=lambda: now)
    for entry in read_journal(storage, attempt):
        last = now = entry.time
        if entry.event is not None:
            tally.add(entry.event)
        match entry.event:
            case Started():
                started = entry.event
                failures.update(started.failures)
            case RowFailed():
                failures[entry.event.kind] += 1
            case Finished():
                finished = entry.event
    state = "finished" if finished else _state(storage, driver, last)
    num_done = sum(known.values())
    num_rows = started.num_rows if started else None
    if finished:
        num_rows = finished.num_done + finished.num_failed
        failures = Counter(finished.failures)
    num_left = None if num_rows is None else max(num_rows - num_done - tally.num_failed, 0)
    if state == "running":
        now = max(now, time.time())
    return Status(
        place=storage.place,
        state=state,
        attempt=attempt,
        host=driver.get("host"),
        pid=driver.get("pid"),
        started=driver.get("started"),
        last_heartbeat=last,
        num_rows=num_rows,
        num_done=num_done,
        num_failed=tally.num_failed,
        num_left=num_left,
        failures=dict(sorted(failures.items())),
        rows_per_second=tally.rows_per_second if started else None,
        video_hours=tally.video_seconds / 3600,
        eta_seconds=tally.eta_seconds if num_left and state == "running" else None,
        manifest=driver.get("manifest", run.get("manifest")),
        checkpoint_note=run.get("checkpoint_note"),
        fingerprint=run["fingerprint"],
    )


def _state(storage: Storage, driver: Mapping[str, Any], last: float | None) -> State:
    if driver.get("host") == socket.gethostname():
        mark = process_mark(driver["pid"])
        return "running" if mark is not None and mark == driver.get("process") else "stopped"
    period = HEARTBEAT_SECONDS if storage.is_local else REMOTE_HEARTBEAT_SECONDS
    since = time.time() - (last or float(driver.get("started") or 0.0))
    return "running" if since < _SILENT_PERIODS * period else "silent"


def _shard_sizes(storage: Storage, attempts: Mapping[int, object]) -> dict[str, int]:
    """Return the number of rows of each shard: as the journals say, else as its footer does."""
    told = {
        entry.event.shard: entry.event.num_rows
        for attempt in attempts
        for entry in read_journal(storage, attempt)
        if isinstance(entry.event, UnitDone)
    }
    sizes = {}
    for name in final_names(storage, SCORES):
        if name in told:
            sizes[name] = told[name]
        else:
            with contextlib.suppress(FileNotFoundError):  # set aside meanwhile
                sizes[name] = _num_rows(storage.read(name))
    return sizes


def _num_rows(data: bytes) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(io.BytesIO(data)).num_rows)
    except pa.ArrowException:
        return 0  # damaged; the next attempt says so
