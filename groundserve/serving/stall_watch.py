"""Kill what has stalled, so that what brings back the dead brings it back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from groundserve.serving.events import log_event
from groundserve.serving.processes import kill_processes
from groundserve.serving.stalls import StallDetector
from groundserve.serving.status import StatusBoard
from groundserve.serving.stubs import Sighting

_POLL_SECONDS = 0.25


class Watched(Protocol):
    """What is asked of a server; `TritonServer` is one."""

    def sightings(self) -> list[Sighting]:
        """Look at its processes; may be called from any thread."""


class StallWatch:
    """Looks from a thread of its own: loading a model keeps a supervisor for minutes."""

    def __init__(self, server: Watched, board: StatusBoard) -> None:
        """Look at nothing yet."""
        self._server = server
        self._board = board
        self._detector = StallDetector()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look until the end of the block, which does not wait for a last look."""
        ended = threading.Event()
        threading.Thread(target=self._run, args=(ended,), name="stalls", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def look(self) -> None:
        """Look once, and kill what has stalled."""
        for stall in self._detector.look(time.monotonic(), self._server.sightings()):
            sighting = stall.sighting
            log_event(
                f"{sighting.role}_stalled",
                level=logging.ERROR if sighting.role == "server" else logging.WARNING,
                pid=sighting.process.pid,
                **({"model": sighting.model} if sighting.model else {}),
                reason=stall.reason,
            )
            self._board.count(f"{sighting.role}s_stalled")
            kill_processes({sighting.process})  # nothing where it has ended by itself meanwhile

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(_POLL_SECONDS):
            try:
                self.look()
            except OSError as error:  # such as no descriptor left for reading /proc
                log_event("look_failed", level=logging.ERROR, reason=str(error))
