"""What the stages count while they work, and a counter for whoever runs them in process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol, get_args

from groundserve.errors import UnavailableError

CounterName = Literal[
    "frames_decoded",
    "vision_passes",
    "vision_frames",
    "prefix_tokens",
    "prompt_tokens",
    "generated_tokens",
    "cache_hits",
    "cache_misses",
    "cache_evictions",
    "cache_corrupted",
    "cache_failures",
    "worker_deaths",
]
COUNTER_NAMES: tuple[CounterName, ...] = get_args(CounterName)


class Meter(Protocol):
    """Takes counts. Both methods may be called from any thread."""

    def add(self, name: CounterName, amount: int = 1) -> None:
        """Count something that happened."""

    def set_cache_bytes(self, num_bytes: int) -> None:
        """Tell how large the cache is now."""


class Counts:
    """A meter that keeps its counts in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[CounterName] = Counter()
        self.cache_bytes = 0

    def __getitem__(self, name: CounterName) -> int:
        """Return one count, 0 where nothing happened yet."""
        # A read of one entry needs no lock; only += does, which reads and then writes.
        return self._counts[name]

    def add(self, name: CounterName, amount: int = 1) -> None:
        """Implement `Meter.add`."""
        with self._lock:
            self._counts[name] += amount

    def set_cache_bytes(self, num_bytes: int) -> None:
        """Implement `Meter.set_cache_bytes`."""
        self.cache_bytes = num_bytes


@contextmanager
def count_deaths(meter: Meter) -> Iterator[None]:
    """Count a worker process that dies inside the block, which must call nothing else."""
    try:
        yield
    # What a worker's death is to its caller: see `WorkerProcess.call`.
    except UnavailableError:
        meter.add("worker_deaths")
        raise
