"""A thread for what an interrupt must not end halfway.

Python raises KeyboardInterrupt between any two instructions of the main thread, so also when gRPC
has just taken a lock there, which then nobody ever lets go of: every later call waits for it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue

Task = Callable[[], None]


class CallThread:
    """Runs short tasks one after another, in the order they come; none may raise."""

    def __init__(self) -> None:
        # Of C, so an interrupt finds it either before a task is in it or afterwards.
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._has_ended = threading.Event()
        threading.Thread(
            target=_run_all,
            args=(self._tasks, self._has_ended),
            name="groundserve-calls",
            daemon=True,
        ).start()
        # The thread holds the queue and not this object, so that the object can go and end the
        # thread.
        weakref.finalize(self, self._tasks.put, None)

    def run(self, task: Task) -> None:
        """Have a task run, without waiting for it."""
        self._tasks.put(task)
        if self._has_ended.is_set():
            _run_rest(self._tasks)

    def close(self) -> None:
        """End the thread after what it was given; later tasks run where they are given."""
        self._tasks.put(None)


def _run_all(tasks: SimpleQueue[Task | None], has_ended: threading.Event) -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # it may hold the last reference to this thread's owner
    # Whoever puts a task in before this is heard below; who does so after it, sees it.
    has_ended.set()
    _run_rest(tasks)


def _run_rest(tasks: SimpleQueue[Task | None]) -> None:
    while True:
        try:
            task = tasks.get_nowait()
        except Empty:
            return
        if task is not None:
            task()
