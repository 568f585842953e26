"""One request on its way: its call, and what is done where that fails.

It is written once, as a coroutine: `AsyncClient` awaits it, and `Client` runs it with means of
waiting that block, so that it ends without ever having been suspended.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Generic, Protocol, TypeVar

from groundserve.answers import OnText
from groundserve.client._connection import Answer, Call, Connection, Deliver, Tensors
from groundserve.client._request import Request, Result
from groundserve.errors import GroundserveError, UnavailableError
from groundserve.runtime.deadline import Deadline

T = TypeVar("T")

_FIRST_WAIT_SECONDS = 0.5
_MAX_WAIT_SECONDS = 8.0
"""Between two tries."""
_WAKE_SECONDS = 0.5
"""How long a wait may go on after its client was closed."""
_MAX_WAY_BACK_SECONDS = 1.0
_WAY_BACK_SHARE = 0.1
"""Part of the time that is left, for an answer in text: when its time is up it is sent as it is."""


class Waiting(Protocol):
    """How a caller waits: all that the two clients differ in."""

    async def answer(self, prepare: Callable[[Deliver], Call]) -> Answer:
        """Begin the call and wait for its answer; whatever ends the wait ends the call.

        Pieces of text that come before it are told.
        """

    async def run(self, function: Callable[[], T]) -> T:
        """Run what may take long and waits for no server."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""


@dataclass(kw_only=True)
class Exchange(Generic[Result]):
    """One request on its way."""

    connection: Connection
    waiting: Waiting
    deadline: Deadline
    retries: int
    """How often it may begin again after UnavailableError."""
    request: Request[Result]
    on_text: OnText | None = None
    """Told the text of answers as it comes; from then on nothing is tried again."""
    _has_told: bool = field(default=False, init=False)

    async def result(self) -> Result:
        """Return the answer."""
        tensors = await self.waiting.run(self.request.to_tensors)
        try:
            answer = await self._ask(tensors)
        except GroundserveError as error:
            error.request_id = self.request.request_id
            raise
        return await self.waiting.run(partial(self.request.to_result, answer))

    async def _ask(self, tensors: Tensors) -> Tensors:
        """Call with as many tries as it may take."""
        num_tries = 1
        waits = islice(_waits(), min(self.retries, sys.maxsize))
        while True:
            try:
                return await self._call_again_if_broken(tensors)
            except UnavailableError as error:
                seconds = None if self._has_told else next(waits, None)
                if seconds is None or self.deadline.remaining_seconds() <= seconds:
                    if num_tries == 1:
                        raise
                    raise UnavailableError(f"{error}; gave up after {num_tries} tries") from error
                num_tries += 1
            await self._wait(seconds)

    async def _call_again_if_broken(self, tensors: Tensors) -> Tensors:
        """Call; once more where the connection broke under the call.

        A server may close a connection while a call is on its way. Whether that call was executed
        nobody knows, nor does it matter: it changes nothing.
        """
        try:
            return await self._call(tensors)
        except UnavailableError as error:
            if self._has_told or not self.connection.broke(error):
                raise
            broke = error
        try:
            return await self._call(tensors)
        except UnavailableError:
            raise broke from broke.__cause__  # what happened first is why

    async def _call(self, tensors: Tensors) -> Tensors:
        self.connection.check_open()
        self.deadline.check()

        def tell(number: int, text: str) -> None:
            self._has_told = True
            assert self.on_text is not None, "or the server sends no pieces"
            try:
                self.on_text(number, text)
            except StopIteration as error:  # Python lets none pass through a coroutine or a future
                raise RuntimeError("on_text raised StopIteration") from error

        def prepare(deliver: Deliver) -> Call:
            seconds = self.deadline.remaining_seconds()
            way_back = min(_MAX_WAY_BACK_SECONDS, _WAY_BACK_SHARE * seconds)
            return self.connection.call(
                tensors,
                seconds=seconds,
                server_seconds=seconds - way_back * (self.request.head == "text"),
                request_id=self.request.request_id,
                head=self.request.head,
                deliver=deliver,
                on_text=self.on_text and tell,
            )

        return self.connection.read(await self.waiting.answer(prepare))

    async def _wait(self, seconds: float) -> None:
        while seconds > 0:
            self.connection.check_open()
            await self.waiting.sleep(min(seconds, _WAKE_SECONDS))
            seconds -= _WAKE_SECONDS


def _waits() -> Iterator[float]:
    """Yield how long to wait before each next try, in seconds.

    They differ, for those who ask at one time not to do so again.
    """
    seconds = _FIRST_WAIT_SECONDS
    while True:
        yield seconds * random.uniform(0.5, 1.0)
        seconds = min(2 * seconds, _MAX_WAIT_SECONDS)
