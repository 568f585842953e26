"""The client of asyncio: each call suspends its task.

It runs on gRPC's ordinary channel, not on grpc.aio: there one poller of the whole process serves
all event loops, and wakes each for the answers of the others (grpc/grpc 25364, 42357), a channel
belongs to one loop, and a request is made into bytes in the loop's own thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from os import PathLike
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import AnswerResult, OnText
from groundserve.arguments import Video
from groundserve.client._answer_request import AnswerRequest
from groundserve.client._base import BaseClient
from groundserve.client._connection import Piece
from groundserve.client._exchange import Arrival
from groundserve.client._request import Request, Result, ScoreRequest
from groundserve.options import AnswerOptions, ScoreOptions
from groundserve.results import ScoreResult
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD

if TYPE_CHECKING:
    from groundserve.frames import FrameIndices


class AsyncClient(BaseClient):
    """`Client` for asyncio: the same arguments, answers and errors, with `await`.

    One client may make any number of requests at one time, each in a thread of its own, which also
    reads the file, and belongs to no event loop. The server stops working for a call whose task is
    cancelled. Not to be used after a fork.

    Example:
        >>> async with AsyncClient("grpc://127.0.0.1:8001") as client:
        ...     result = await client.score("talk.mp4", "When does she point at the chart?")
        ...     result.queries[0].selected_seconds
    """

    async def score(
        self,
        video: str | PathLike[str] | bytes | None = None,
        queries: str | Sequence[str] = (),
        options: ScoreOptions | None = None,
        *,
        video_uri: str | None = None,
        request_id: str | None = None,
        span_threshold: float = DEFAULT_SPAN_THRESHOLD,
        span_gap_seconds: float = DEFAULT_SPAN_GAP_SECONDS,
        timeout_seconds: float | None = None,
    ) -> ScoreResult:
        """Score the frames of one video for one or more questions; see `Client.score`."""
        request = ScoreRequest(
            video=video,
            video_uri=video_uri,
            queries=queries,
            options=options,
            request_id=request_id,
            span_threshold=span_threshold,
            span_gap_seconds=span_gap_seconds,
        )
        return await self._send(request, timeout_seconds)

    async def ask(
        self,
        video: str | PathLike[str] | bytes | None = None,
        queries: str | Sequence[str] = (),
        options: AnswerOptions | None = None,
        *,
        video_uri: str | None = None,
        request_id: str | None = None,
        on_text: OnText | None = None,
        timeout_seconds: float | None = None,
    ) -> AnswerResult:
        """Answer one or more questions about one video in text; see `Client.ask`."""
        request = AnswerRequest(
            video=video,
            video_uri=video_uri,
            queries=queries,
            options=options,
            request_id=request_id,
        )
        return await self._send(request, timeout_seconds, on_text)

    async def frames(
        self,
        video: Video,
        frame_indices: FrameIndices,
        *,
        longest_side: int | None = None,
    ) -> NDArray[np.uint8]:
        """Decode frames of a local video in another thread; see `Client.frames`."""
        from groundserve.frames import read_frames

        return await asyncio.to_thread(read_frames, video, frame_indices, longest_side=longest_side)

    async def is_ready(self) -> bool:
        """Tell whether the server answers, within 10 s, and all its models are ready.

        False once closed.
        """
        return await asyncio.to_thread(self._connection.is_ready, self._timeout_seconds)

    async def close(self) -> None:
        """Close the connection and cancel the calls that are under way in other tasks."""
        await asyncio.to_thread(self._connection.close)

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
