"""Wall milliseconds of named stages."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up time under names, from any thread.

    Time that several blocks of one name run side by side is booked once.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._lock = threading.Lock()
        self._num_running: Counter[str] = Counter()
        self._running_since: dict[str, float] = {}
        self.timing_ms: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Book the time since the stopwatch was made."""
        self._add(name, self._started)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
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
                    self._add(name, self._running_since.pop(name))

    def _add(self, name: str, started: float) -> None:
        elapsed_ms = (time.perf_counter() - started) * 1000
        self.timing_ms[name] = self.timing_ms.get(name, 0.0) + elapsed_ms
