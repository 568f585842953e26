"""Wall milliseconds of the stages of a request."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

StageName = Literal[
    "cache", "wait", "probe", "cut", "decode", "encode", "ground", "select", "generate"
]
"""What of a request is timed; each is also a label of the server's metrics."""
STAGES: tuple[StageName, ...] = get_args(StageName)


class Stopwatch:
    """Adds up time by stage, from any thread.

    Time that several blocks of one stage run side by side is booked once.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._lock = threading.Lock()
        self._num_running: Counter[str] = Counter()
        self._running_since: dict[str, float] = {}
        self.timing_ms: dict[str, float] = {}

    @property
    def elapsed_ms(self) -> float:
        """Time since the stopwatch was made."""
        return (time.perf_counter() - self._started) * 1000

    @contextmanager
    def measure(self, name: StageName) -> Iterator[None]:
        """Book the time the block takes, also when it raises."""
        with self._lock:
            self._num_running[name] += 1
            # From the first of the blocks that run at once ...
            self._running_since.setdefault(name, time.perf_counter())
        try:
            yield
        finally:
            with self._lock:
                self._num_running[name] -= 1
                # ... to the end of the last.
                if not self._num_running[name]:
                    seconds = time.perf_counter() - self._running_since.pop(name)
                    self.timing_ms[name] = self.timing_ms.get(name, 0.0) + seconds * 1000
