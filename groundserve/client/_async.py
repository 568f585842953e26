"""The client of asyncio: each call suspends its task.

It runs on gRPC's ordinary channel, not on grpc.aio: there one poller of the whole process serves
all event loops, and wakes each for the answers of the others (grpc/grpc 25364, 42357), a channel
belongs to one loop, and a request is made into bytes in the loop's own thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from groundserve.answers import OnText
from groundserve.client._base import BaseClient
from groundserve.client._connection import Piece
from groundserve.client._exchange import Arrival
from groundserve.client._request import Request, Result
from groundserve.client._sync import Client

P = ParamSpec("P")
T = TypeVar("T")
Awaited = Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]


def _awaited(method: Callable[Concatenate[Any, P], T]) -> Awaited[P, T]:
    """Make a method of `Client` that ends with `_send` one of `AsyncClient`."""

    @wraps(method)
    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        sent: Any = method(self, *args, **kwargs)
        result: T = await sent
        return result

    return call


def _in_thread(method: Callable[Concatenate[Any, P], T]) -> Awaited[P, T]:
    """Make a method of `Client` one that runs in another thread than the loop's."""

    @wraps(method)
    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, self, *args, **kwargs)

    return call


class AsyncClient(BaseClient):
    """`Client` for asyncio: the same arguments, answers and errors, with `await`.

    One client may make any number of requests at one time, each in a thread of its own, which also
    reads the file, and belongs to no event loop. The server stops working for a call whose task is
    cancelled. Not to be used after a fork.

    Examples:
        >>> async with AsyncClient("grpc://127.0.0.1:8001") as client:
        ...     result = await client.score("talk.mp4", "When does she point at the chart?")
        ...     result.queries[0].selected_seconds
    """

    score = _awaited(Client.score)
    ask = _awaited(Client.ask)
    frames = _in_thread(Client.frames)
    is_ready = _in_thread(Client.is_ready)
    families = _in_thread(Client.families)
    close = _in_thread(Client.close)

    async def _send(
        self,
        request: Request[Result],
        timeout_seconds: float | None,
        on_text: OnText | None = None,
    ) -> Result:
        loop = asyncio.get_running_loop()
        arrivals: asyncio.Queue[Arrival] = asyncio.Queue()

        def deliver(arrival: Arrival) -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(arrivals.put_nowait, arrival)

        exchange = self._exchange(request, deliver, timeout_seconds, on_text)
        try:
            exchange.start()
            while isinstance(arrival := await arrivals.get(), Piece):
                assert on_text is not None, "or the server sends no pieces"
                on_text(*arrival)
        except BaseException:
            exchange.cancel()
            raise
        result: Result = arrival.result()
        return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
