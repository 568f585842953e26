"""Ending a run on SIGTERM, with a checkpoint that it goes on from."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from groundserve.errors import GroundserveError

EXIT_STOPPED = 75
"""Exit code of a run that SIGTERM ended and that can go on: `EX_TEMPFAIL` of sysexits.h."""
SAME_STOP_SECONDS = 5.0
"""Signals this soon after the first are the same request: Slurm signals every process of a job, and
torchrun, which is one of them, passes the signal on to its workers."""


class RunStoppedError(GroundserveError):
    """SIGTERM ended a run after a whole step; nothing is lost, and `resume` goes on."""

    def __init__(self, checkpoint: Path | None) -> None:
        wrote = "nothing is trained yet" if checkpoint is None else f"wrote {checkpoint}"
        super().__init__(f"stopped by SIGTERM; {wrote}, go on with --resume")
        self.checkpoint = checkpoint
        """What `resume` starts from; None: from the beginning."""


class StopRequest:
    """Whether this process has got SIGTERM, after which the run ends with its step."""

    _first: float | None = None

    @property
    def is_made(self) -> bool:
        """Whether it has."""
        return self._first is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal: the first asks, a later one ends the process as it is."""
        now = time.monotonic()
        if self._first is None:
            self._first = now  # and nothing else: this may come amid a write to a log
        elif now - self._first > SAME_STOP_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Take SIGTERM as a request, to the end of the block."""
    request = StopRequest()
    # Python runs handlers in the main thread alone.
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = signal.signal(signal.SIGTERM, request.receive)
    try:
        yield request
    finally:
        # None: a handler that Python did not set; it can only be replaced by the default.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)
