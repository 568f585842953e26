"""Calls that wait for their answer in a thread, each on a channel of its own.

A call of gRPC's that is answered by a callback costs a thread that is started for it and ended
after it; one that blocks takes half the processor time, but cannot be cancelled on its own. So each
has a line: a thread and a channel, both kept for the next call, and to cancel the call is to close
the channel. All channels to one address share one connection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from groundserve.call_thread import CallThread

Server = Any
"""tritonclient's InferenceServerClient: a channel."""


class Lines:
    """As many lines as there were ever calls at one time."""

    def __init__(self, connect: Callable[[], Server]) -> None:
        """Open none yet; `connect` makes a channel."""
        self._connect = connect
        # Of C, each used in one step: an interrupt or another thread finds them before or after it.
        self._all: set[Line] = set()
        self._idle: list[Line] = []
        self._is_closed = False

    def take(self) -> Line:
        """Return a line that nobody uses, closed where all are."""
        try:
            return self._idle.pop()
        except IndexError:
            pass
        line = Line(self._connect)
        self._all.add(line)
        if self._is_closed:  # in this order `close` closes it, or it is closed here
            line.close()
        return line

    def give_back(self, line: Line) -> None:
        """Keep the line for the next call."""
        self._idle.append(line)

    def drop(self, line: Line) -> None:
        """Forget a line that is closed."""
        self._all.discard(line)

    def close(self) -> None:
        """Close all lines; not in a thread that an interrupt may reach."""
        self._is_closed = True
        for line in list(self._all):
            line.close()


class Line:
    """One call at a time, in a thread and on a channel of its own."""

    def __init__(self, connect: Callable[[], Server]) -> None:
        self._connect = connect
        self._thread = CallThread()
        # Taken in threads of ours alone, where no interrupt is raised.
        self._lock = threading.Lock()
        self._server: Server = None
        self._call: LineCall | None = None
        self._is_closed = False

    def run(self, call: LineCall) -> None:
        """Have a call made, without waiting for it."""
        self._thread.run(partial(self._run, call))

    def close(self) -> None:
        """End the call that is under way; each later one fails with ValueError."""
        with self._lock:
            self._is_closed = True
            server = self._server
        if server is not None:
            server.close()
        self._thread.close()

    def close_during(self, call: LineCall) -> bool:
        """Close the line where this call is still under way, and tell whether it was."""
        with self._lock:
            if self._call is not call:
                return False
            self._is_closed = True
        self.close()
        return True

    def _run(self, call: LineCall) -> None:
        with self._lock:
            # Here rather than where the line is made: an interrupt must not end it halfway.
            if self._server is None:
                self._server = self._connect()
            if self._is_closed:
                self._server.close()
            self._call = None if call.is_ended else call
            server = self._server
        answer = None if self._call is None else call.answer(server)
        with self._lock:
            self._call = None
            is_closed = self._is_closed
        call.finish(self, answer, is_closed=is_closed)


class LineCall:
    """A call that its line's thread waits for."""

    def __init__(
        self,
        lines: Lines,
        thread: CallThread,
        infer: Callable[[Server], Any],
        deliver: Callable[[Any], None],
    ) -> None:
        """Prepare a call.

        Args:
            lines: Where it gets its line.
            thread: In which it is ended.
            infer: Makes the call, and returns when it is answered.
            deliver: Gets what that returns or raises.
        """
        self._lines = lines
        self._thread = thread
        self._infer = infer
        self._deliver = deliver
        self._line: Line | None = None
        self.is_ended = False
        """Whether nobody waits for the answer any more."""

    def begin(self) -> None:
        """See `Call.begin`."""
        self._line = self._lines.take()
        self._line.run(self)

    def end(self) -> None:
        """See `Call.end`."""
        self.is_ended = True
        if self._line is not None:
            self._thread.run(partial(self._cancel, self._line))

    def answer(self, server: Server) -> Any:
        """Make the call and wait, in the line's thread."""
        try:
            return self._infer(server)
        except Exception as error:  # noqa: BLE001 - raised by `read`, where the answer is waited for
            return error

    def finish(self, line: Line, answer: Any, *, is_closed: bool) -> None:
        """Hand the answer on, after the line: who gets it may begin the next call at once."""
        if not is_closed:
            self._lines.give_back(line)
        if not self.is_ended:
            self._deliver(answer)

    def _cancel(self, line: Line) -> None:
        if line.close_during(self):
            self._lines.drop(line)
