"""Requests that are worked on in turns: between two questions of one, others have theirs.

Triton gives an instance one request at a time, until `execute` returns. So it returns at once,
threads of the process work, and each answer is sent when it is done.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from groundserve.errors import DeadlineExceededError, RequestCancelledError
from groundserve.runtime.deadline import POLL_SECONDS, Deadline
from python_backend.generate import Turns
from python_backend.triton._errors import typed
from python_backend.triton._tensors import Tensors

_MAX_WAITING = 8
"""Requests that wait for a turn here, each with its features. More wait in Triton's own queue."""
_MAX_TOGETHER = 32
"""Requests that are worked on at once where none takes turns: as many as the two fronts have."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """One request; `finish` is called once, with what came of it."""

    turns: Turns[Tensors]
    deadline: Deadline
    finish: Callable[[Tensors | Exception], None]

    def is_over(self) -> bool:
        """Tell whether its time has passed, or its caller is gone."""
        try:
            self.deadline.check()
        except (DeadlineExceededError, RequestCancelledError):
            return True
        return False

    def advance(self) -> bool:
        """Work until the next stop; tell whether there is more to do."""
        try:
            next(self.turns)
        except StopIteration as finished:
            self.finish(finished.value)
        except Exception as error:  # noqa: BLE001 - as `attempt`; the thread must go on
            self.finish(typed(error))
        else:
            return True
        return False


class TurnTaking:
    """One thread that gives each request a turn, the one that waits longest first."""

    def __init__(self) -> None:
        self._waiting: deque[Work] = deque()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="turns", daemon=True).start()

    def others_wait(self) -> bool:
        """Tell whether any request waits for a turn, beside the one that has it."""
        return bool(self._waiting)

    def add(self, work: Work) -> None:
        """Let a request wait for its turn; return when there is room for the next one."""
        with self._changed:
            self._waiting.append(work)
            self._changed.notify_all()
            while len(self._waiting) > _MAX_WAITING:
                if over := next((one for one in self._waiting if one.is_over()), None):
                    self._waiting.remove(over)
                    over.advance()  # finds itself over before it computes anything
                else:
                    self._changed.wait(POLL_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self.others_wait)
                work = self._waiting.popleft()
                self._changed.notify_all()
            if work.advance():
                with self._changed:
                    self._waiting.append(work)


class Together:
    """A thread for each request: another process does the work, and knows of all of them."""

    def __init__(self) -> None:
        self._room = threading.Semaphore(_MAX_TOGETHER)

    def others_wait(self) -> bool:
        """Tell that none waits for a turn."""
        return False

    def add(self, work: Work) -> None:
        """Begin to work on a request; return when there is room for the next one."""
        self._room.acquire()
        threading.Thread(target=self._run, args=(work,), name="together", daemon=True).start()

    def _run(self, work: Work) -> None:
        try:
            while work.advance():
                pass
        finally:
            self._room.release()
