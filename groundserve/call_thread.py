"""A thread for what an interrupt must not end halfway.

Python raises KeyboardInterrupt between any two instructions of the main thread, so also when gRPC
has just taken a lock there, which then nobody ever lets go of: every later call waits for it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

Task = Callable[[], None]


class CallThread:
    """Runs short tasks one after another, in the order they come; none may raise."""

    def __init__(self) -> None:
        # Of C, so an interrupt finds it either before a task is in it or afterwards.
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        threading.Thread(target=_run_all, args=(self._tasks,), daemon=True).start()
        # The thread holds the queue and not this object, so that the object can go and end the
        # thread.
        weakref.finalize(self, self._tasks.put, None)

    def run(self, task: Task) -> None:
        """Have a task run, without waiting for it."""
        self._tasks.put(task)


def _run_all(tasks: SimpleQueue[Task | None]) -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # it may hold the last reference to this thread's owner
