"""A number of places that threads hold for a while: who waits longest gets the next one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from groundserve.runtime.deadline import Deadline


class Places:
    """A semaphore that is fair, where whoever waits may give up."""

    def __init__(self, number: int) -> None:
        self._num_free = number
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def held(self, deadline: Deadline) -> Iterator[None]:
        """Hold a place in the block; raises as `Deadline.check` while it waits for one."""
        self._take(deadline)
        try:
            yield
        finally:
            self._give()

    def _take(self, deadline: Deadline) -> None:
        mine = threading.Event()
        with self._lock:
            if self._num_free:
                self._num_free -= 1
                return
            self._waiting.append(mine)
        try:
            # In turns: `wait_seconds` raises once time is up, or nobody waits any more.
            while not mine.wait(deadline.wait_seconds()):
                pass
        except BaseException:
            with self._lock:
                is_waiting = mine in self._waiting
                if is_waiting:
                    self._waiting.remove(mine)
            if not is_waiting:  # it was given one meanwhile
                self._give()
            raise

    def _give(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._num_free += 1
