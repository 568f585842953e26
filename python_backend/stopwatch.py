"""Wall milliseconds of named stages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up time under names. Each name is used by one thread at a time."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.timing_ms: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Book the time since the stopwatch was made."""
        self._add(name, self._started)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Book the time the block takes, also when it raises."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._add(name, started)

    def _add(self, name: str, started: float) -> None:
        elapsed_ms = (time.perf_counter() - started) * 1000
        self.timing_ms[name] = self.timing_ms.get(name, 0.0) + elapsed_ms
