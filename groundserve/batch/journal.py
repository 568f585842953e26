"""DIR/log: what happened in each attempt, one JSON object a line, in the order it happened.

On a local disk a line is handed to the system as it is written, so a killed process loses none. An
object store has no appending: lines are gathered there and put as one more object each minute.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from groundserve.batch import events
from groundserve.batch.events import Event
from groundserve.storage import RunDirectoryError, Storage

LOG = "log"
HEARTBEAT_SECONDS = 10.0
"""Longest silence of a journal whose driver lives."""
REMOTE_HEARTBEAT_SECONDS = 60.0
"""The same in an object store."""


class Journal:
    """Writes the log of one attempt, and a heartbeat while nothing happens."""

    def __init__(self, storage: Storage, attempt: int) -> None:
        self._storage = storage
        self._stem = f"{LOG}/attempt-{attempt:04d}"
        self._lines: list[bytes] = []
        self._num_parts = 0
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._last = time.monotonic()
        self._period = HEARTBEAT_SECONDS if storage.is_local else REMOTE_HEARTBEAT_SECONDS
        self._thread = threading.Thread(target=self._beat, name="journal", daemon=True)
        self._thread.start()

    def write(self, *happened: Event) -> None:
        """Add lines, on a local disk at once and in one piece."""
        self._add([events.to_json(event) for event in happened])
        if self._storage.is_local:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        with self._lock:
            # Also where this fails: half of it may be there, and a failure counts once.
            data = b"".join(self._lines)
            self._lines.clear()
            if not data:
                return
            self._last = time.monotonic()
            if self._storage.is_local:
                self._storage.append(f"{self._stem}.jsonl", data)
            else:
                self._storage.write(f"{self._stem}-{self._num_parts:06d}.jsonl", data)
                self._num_parts += 1

    def close(self) -> None:
        """Write what is left, and end the heartbeat."""
        self._is_closed.set()
        self._thread.join()
        self.flush()

    def _add(self, objects: list[dict[str, object]]) -> None:
        now = time.time()
        with self._lock:
            self._lines += (json.dumps({"time": now, **one}).encode() + b"\n" for one in objects)

    def _beat(self) -> None:
        while not self._is_closed.wait(min(1.0, self._period)):
            if time.monotonic() - self._last >= self._period:
                with suppress(RunDirectoryError):  # the next event says so
                    self._add([{"event": "heartbeat"}])
                    self.flush()


def read_journal(storage: Storage, attempt: int) -> Iterator[tuple[float, Event | None]]:
    """Yield the time and the event of each line of an attempt; one that was cut short is left out.

    None is a heartbeat, or a line of another version.
    """
    stem = f"attempt-{attempt:04d}"
    for name in storage.names(LOG):
        if name.startswith((f"{stem}.", f"{stem}-")) and name.endswith(".jsonl"):
            # Missing where the directory is being removed.
            with suppress(FileNotFoundError), storage.open(f"{LOG}/{name}") as lines:
                for line in lines:
                    with suppress(ValueError, TypeError, KeyError):
                        values = json.loads(line)
                        yield float(values["time"]), events.from_json(values)
