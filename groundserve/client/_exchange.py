"""One request on its way, in a thread of its own: its calls, and what is done where they fail.

No interrupt reaches that thread. Python raises KeyboardInterrupt between any two instructions of
the main thread, so also when gRPC has just taken a lock there, which then nobody ever lets go of.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic

from groundserve.client._connection import Calling, Connection, Piece, Tensors
from groundserve.client._request import Request, Result
from groundserve.errors import GroundserveError, RequestCancelledError, UnavailableError
from groundserve.runtime.deadline import Deadline

Arrival = Piece | Future[Any]
"""What a caller waits for: pieces of text, and at the end the result."""

_FIRST_WAIT_SECONDS = 0.5
_MAX_WAIT_SECONDS = 8.0
"""Between two tries."""
_WAKE_SECONDS = 0.5
"""How long a wait may go on after its client was closed."""
_LET_GO_SECONDS = 0.2
"""What gRPC has to let go of a lost connection: a call made at once may be put on it again."""
_MAX_WAY_BACK_SECONDS = 1.0
_WAY_BACK_SHARE = 0.1
"""Part of the time that is left, for an answer in text: when its time is up it is sent as it is."""


@dataclass(kw_only=True)
class Exchange(Generic[Result]):
    """One request on its way."""

    connection: Connection
    deadline: Deadline
    retries: int
    """How often it may begin again after UnavailableError."""
    request: Request[Result]
    is_streamed: bool
    """Whether pieces of text are wanted; from the first one on nothing is tried again."""
    deliver: Callable[[Arrival], None]
    """Takes what arrives, in the exchange's thread; must not raise."""
    _has_told: bool = field(default=False, init=False)
    _is_cancelled: bool = field(default=False, init=False)
    _call_under_way: Any = field(default=None, init=False)

    def start(self) -> None:
        """Begin; the result is delivered once, unless nobody waits for it any more."""
        threading.Thread(target=self._run, name="groundserve-call", daemon=True).start()

    def cancel(self) -> None:
        """End it, without waiting for that, in a thread that no interrupt reaches."""
        self._is_cancelled = True
        threading.Thread(target=self._cancel_call, daemon=True).start()

    def result(self) -> Result:
        """Return the answer, in the caller's thread."""
        tensors = self.request.to_tensors()
        try:
            answer = self._ask(tensors)
        except GroundserveError as error:
            error.request_id = self.request.request_id
            raise
        return self.request.to_result(answer)

    def _run(self) -> None:
        outcome: Future[Result] = Future()
        try:
            outcome.set_result(self.result())
        except BaseException as error:  # noqa: BLE001 - raised where the result is waited for
            outcome.set_exception(error)
        self.deliver(outcome)
        del outcome  # or an error, which knows this frame, would keep itself alive

    def _cancel_call(self) -> None:
        if (call := self._call_under_way) is not None:
            call.cancel()

    def _ask(self, tensors: Tensors) -> Tensors:
        """Call with as many tries as it may take."""
        num_tries = 1
        waits = islice(_waits(), min(self.retries, sys.maxsize))
        while True:
            try:
                return self._call_again_if_broken(tensors)
            except UnavailableError as error:
                seconds = None if self._has_told else next(waits, None)
                if seconds is None or self.deadline.remaining_seconds() <= seconds:
                    if num_tries == 1:
                        raise
                    raise UnavailableError(f"{error}; gave up after {num_tries} tries") from error
                num_tries += 1
            self._wait(seconds)

    def _call_again_if_broken(self, tensors: Tensors) -> Tensors:
        """Call; once more where the connection broke under the call.

        A server may close a connection while a call is on its way. Whether that call was executed
        nobody knows, nor does it matter: it changes nothing.
        """
        try:
            return self._call(tensors)
        except UnavailableError as error:
            if self._has_told or not self.connection.broke(error):
                raise
            broke = error
        self._wait(_LET_GO_SECONDS)
        try:
            return self._call(tensors)
        except UnavailableError:
            raise broke from None  # what happened first is why

    def _call(self, tensors: Tensors) -> Tensors:
        self._check_wanted()
        self.deadline.check()
        seconds = self.deadline.remaining_seconds()
        way_back = min(_MAX_WAY_BACK_SECONDS, _WAY_BACK_SHARE * seconds)
        how = Calling(
            seconds=seconds,
            server_seconds=seconds - way_back * (self.request.head == "text"),
            request_id=self.request.request_id,
            head=self.request.head,
            is_streamed=self.is_streamed,
        )
        self._call_under_way = call = self.connection.call(tensors, how)
        if self._is_cancelled:  # before the call was known
            call.cancel()
        return self.connection.read(call, self._tell if self.is_streamed else None)

    def _tell(self, piece: Piece) -> None:
        self._has_told = True
        self.deliver(piece)

    def _wait(self, seconds: float) -> None:
        while seconds > 0:
            self._check_wanted()
            time.sleep(min(seconds, _WAKE_SECONDS))
            seconds -= _WAKE_SECONDS

    def _check_wanted(self) -> None:
        self.connection.check_open()
        if self._is_cancelled:
            raise RequestCancelledError("the request was cancelled by its caller")


def _waits() -> Iterator[float]:
    """Yield how long to wait before each next try, in seconds.

    They differ, for those who ask at one time not to do so again.
    """
    seconds = _FIRST_WAIT_SECONDS
    while True:
        yield seconds * random.uniform(0.5, 1.0)
        seconds = min(2 * seconds, _MAX_WAIT_SECONDS)
