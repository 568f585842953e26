"""The work of one request, by itself or on its way to somebody who waits."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse

from groundserve.answers import AnswerResult, OnText
from groundserve.client import AsyncClient
from groundserve.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    RequestCancelledError,
)
from groundserve.fetching import without_secrets
from groundserve.gateway.access import Access, Owner
from groundserve.gateway.errors import error_body, not_found, public_error
from groundserve.gateway.pictures import Pictures
from groundserve.gateway.requests import Asked
from groundserve.gateway.settings import GatewaySettings
from groundserve.gateway.spool import Spool
from groundserve.gateway.store import Video
from groundserve.gateway.upstreams import Upstreams, Wanted
from groundserve.gateway.video_llms import VideoLlmClients
from groundserve.options import Head
from groundserve.results import ScoreResult
from groundserve.url_reader import open_url

T = TypeVar("T")
_HEADS: dict[str, Head] = {"score": "frames", "ask": "text"}


@dataclass(kw_only=True)
class Desk:
    """Where the work of all requests is done."""

    settings: GatewaySettings
    access: Access
    spool: Spool
    upstreams: Upstreams
    pictures: Pictures
    video_llms: VideoLlmClients

    async def fetched(self, url: str, owner: Owner, held: AsyncExitStack) -> Video:
        """Return the video of a URL, which goes when `held` is left."""
        if not (policy := self.settings.fetch_policy).hosts:
            raise InvalidRequestError("video_url: this gateway fetches nothing; upload the video")
        async with open_url(url, policy) as chunks:
            video = await self.spool.receive(
                chunks, owner, name=without_secrets(url), is_temporary=True
            )
        return held.enter_context(self.spool.pinned(video))

    async def answer(
        self,
        asked: Asked,
        owner: Owner,
        *,
        request_id: str,
        on_text: OnText | None = None,
        on_stage: Callable[[str], None] = lambda stage: None,
        patience_seconds: float = 10.0,
    ) -> ScoreResult | AnswerResult:
        """Return the answer to a request, as the client of gRPC does.

        Raises:
            GroundserveError: What is wrong; `public_error` says what may be told of it.
        """
        seconds = min(asked.body.timeout_seconds or math.inf, self.settings.max_request_seconds)
        give_up_at = time.monotonic() + seconds
        has_told = False

        def tell(query: int, text: str) -> None:
            nonlocal has_told
            has_told = True
            assert on_text is not None, "it is called for no other"
            on_text(query, text)

        def ask(client: AsyncClient) -> Awaitable[ScoreResult | AnswerResult]:
            on_stage("running")
            common["timeout_seconds"] = max(0.001, give_up_at - time.monotonic())
            if asked.kind == "ask":
                return client.ask(**common, on_text=tell if on_text else None)
            return client.score(
                **common,
                span_threshold=asked.body.span_threshold,
                span_gap_seconds=asked.body.span_gap_seconds,
            )

        try:
            async with asyncio.timeout(seconds), AsyncExitStack() as held:
                video = asked.video
                if video is None:
                    on_stage("fetching")
                    video = await self.fetched(asked.body.video_url, owner, held)
                if not self.spool.path(video).is_file():  # deleted meanwhile
                    raise not_found("video")
                on_stage("waiting")
                common: dict[str, Any] = {
                    "video_uri": self.spool.uri(video),
                    "queries": asked.body.queries,
                    "options": asked.options,
                    "request_id": request_id,
                }
                head, family = _HEADS[asked.kind], asked.body.model
                result = await self.upstreams.call(
                    ask,
                    Wanted(head=head, video_key=video.sha256, family=family),
                    patience_seconds=patience_seconds,
                    may_repeat=lambda: not has_told,
                )
                return dataclasses.replace(result, video=video.name)
        except TimeoutError:
            raise DeadlineExceededError("no time is left") from None


async def as_json(result: ScoreResult | AnswerResult) -> str:
    """Return what the command line prints with --json; in a thread: it may be megabytes."""

    def text() -> str:
        return json.dumps(result.to_json(), ensure_ascii=False, allow_nan=False)

    return await asyncio.to_thread(text)


async def until_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Work for as long as the caller stays; the body must have been read."""

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(leave())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise RequestCancelledError("the caller is gone")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def sse(data: str, *, event: str = "") -> str:
    """Return one server-sent event; the data is one line."""
    return f"{event and f'event: {event}'}\ndata: {data}\n\n".lstrip()


async def streamed(
    request: Request,
    events: AsyncIterator[str],
    *,
    held: AsyncExitStack,
    error_event: str = "error",
) -> StreamingResponse:
    """Answer with events, once there is one: what fails before has a status, after it an event.

    `events` is closed when it ends or the caller leaves, and after it `held`.
    """

    async def all_events() -> AsyncIterator[str]:
        async with held, aclosing(events):  # type: ignore[type-var]  # a generator
            yield await until_left(request, anext(events))  # type: ignore[arg-type]
            try:
                async for event in events:
                    yield event
            except Exception as error:  # noqa: BLE001 - told to the caller
                yield sse(json.dumps(error_body(public_error(error))), event=error_event)

    every = all_events()
    first = await anext(every)

    async def rest() -> AsyncIterator[str]:
        async with aclosing(every):  # type: ignore[type-var]
            yield first
            async for event in every:
                yield event

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(rest(), media_type="text/event-stream", headers=headers)


async def pieces_of(
    work: Callable[[OnText], Coroutine[Any, Any, ScoreResult | AnswerResult]],
) -> AsyncIterator[tuple[int, str] | ScoreResult | AnswerResult]:
    """Yield the question and the text of each piece, then the result; the work ends with this."""
    arrived: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(lambda *piece: arrived.put_nowait(piece)))
    task.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        while (piece := await arrived.get()) is not None:
            yield piece
        yield task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def answer_events(
    work: Callable[[OnText], Coroutine[Any, Any, ScoreResult | AnswerResult]],
) -> AsyncIterator[str]:
    """Yield `text` events, then `result`."""
    async with aclosing(pieces_of(work)) as pieces:  # type: ignore[type-var]  # a generator
        async for piece in pieces:
            if isinstance(piece, tuple):
                yield sse(json.dumps({"query": piece[0], "text": piece[1]}), event="text")
            else:
                yield sse(await as_json(piece), event="result")
