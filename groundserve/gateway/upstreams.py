"""The servers behind the gateway: which are ready, which one a request goes to, who waits."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from groundserve.client import AsyncClient
from groundserve.errors import UnavailableError, UnsupportedError
from groundserve.families import get_family
from groundserve.gateway.errors import busy, not_found
from groundserve.options import Head
from groundserve.serving.events import log_event
from groundserve.triton_messages import is_decoder_death

T = TypeVar("T")

_LOOK_SECONDS = 5.0
"""Between two looks at a server that is ready."""
_LOOK_AGAIN_SECONDS = 0.5
"""Between two looks at one that is not."""
_SPILL = 4
"""How many more requests the server that has a video's features may have than the idlest."""
_MAX_TRIES = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """What a request needs of a server."""

    head: Head
    video_key: str
    """Requests with the same one go to the same server, which has the features."""
    family: str | None = None
    """Of the server's engines; any where None."""
    place: asyncio.Future[Upstream] = field(default_factory=asyncio.Future)
    """Done, for who waits, when a server has room, and counts it already."""


class Upstream:
    """One server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = AsyncClient(url)
        self.is_ready = False
        self.is_draining = False
        """Whether it gets no new requests."""
        self.families: tuple[str, ...] = ()
        """What it serves; known from when it is first ready."""
        self.num_running = 0
        self.became_ready = asyncio.Event()
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        self._doubt = asyncio.Event()

    def serves(self, wanted: Wanted) -> bool:
        """Tell whether its engines are of the family, or the head, that a request needs."""
        return any(
            get_family(name).head == wanted.head and wanted.family in (None, name)
            for name in self.families
        )

    def suspect(self) -> None:
        """Have it looked at now, and give it nothing until then."""
        self.is_ready = False
        self._doubt.set()

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Look at it again and again."""
        while True:
            self._doubt.clear()
            was_ready = self.is_ready
            families = await self.client.families()
            self.is_ready = bool(families) and not self._doubt.is_set()
            if families:
                self.families = families
            if self.is_ready != was_ready:
                log_event("upstream", url=self.url, ready=self.is_ready)
            if self.is_ready:
                self.became_ready.set()
                on_change()
            with suppress(TimeoutError):
                if self.is_ready:
                    await asyncio.wait_for(self._doubt.wait(), _LOOK_SECONDS)
                else:
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)


class Upstreams:
    """All servers, and the queue of those who wait for one."""

    def __init__(self, urls: tuple[str, ...], *, max_running: int, max_waiting: int) -> None:
        """Connect lazily; `open` begins to look at them."""
        self._max_running, self._max_waiting = max_running, max_waiting
        self._urls = urls
        self.all: dict[Upstream, asyncio.Task[None]] = {}
        """Each with the task that looks at it."""
        self._waiting: list[Wanted] = []

    @property
    def num_waiting(self) -> int:
        """How many requests wait for a place."""
        return len(self._waiting)

    @property
    def ready(self) -> list[Upstream]:
        """The servers that take new requests."""
        return [one for one in self.all if one.is_ready and not one.is_draining]

    def open(self) -> None:
        """Begin to look at the servers."""
        for url in self._urls:
            self._take_in(url)

    async def close(self) -> None:
        """End all calls."""
        for upstream, watch in self.all.items():
            watch.cancel()
            await upstream.client.close()
        await asyncio.gather(*self.all.values(), return_exceptions=True)

    def families(self) -> list[str]:
        """Return the names of all families that a ready server has."""
        return sorted({name for upstream in self.ready for name in upstream.families})

    async def call(
        self,
        ask: Callable[[AsyncClient], Awaitable[T]],
        wanted: Wanted,
        *,
        patience_seconds: float = 10.0,
        may_repeat: Callable[[], bool] = lambda: True,
    ) -> T:
        """Ask one server, and another where that fails without a fault of the request's.

        To score or ask twice changes nothing, so a request whose connection broke is sent again,
        unless `may_repeat` says that text of its answer was passed on.

        Raises:
            RefusedError: Too many wait.
            UnsupportedError: No server has what is wanted.
            GroundserveError: What the last try raised; UnavailableError where no server was ready
                for `patience_seconds`.
        """
        for num_left in reversed(range(_MAX_TRIES)):
            upstream = await self._place(wanted, patience_seconds)
            try:
                return await ask(upstream.client)
            except UnavailableError as error:
                # A video that ended its decoder would end the next one's.
                if not num_left or is_decoder_death(error) or not may_repeat():
                    raise
                upstream.suspect()
            finally:
                self._leave(upstream)
        raise AssertionError("the last try returns or raises")

    async def add(self, url: str) -> None:
        """Take in a server, and return when it is ready."""
        await self._take_in(url).became_ready.wait()

    async def drain(self, url: str) -> None:
        """Give a server nothing new, and let it go when it has answered all."""
        leaving = [upstream for upstream in self.all if upstream.url == url]
        for upstream in leaving:
            upstream.is_draining = True
        for upstream in leaving:
            await upstream.is_idle.wait()
            self.all.pop(upstream).cancel()
            await upstream.client.close()

    def _take_in(self, url: str) -> Upstream:
        upstream = Upstream(url)
        watch = asyncio.get_running_loop().create_task(upstream.watch(self._seat))
        self.all[upstream] = watch
        return upstream

    async def _place(self, wanted: Wanted, patience_seconds: float) -> Upstream:
        """Return a server that has room, which counts the request from now on."""
        able = [upstream for upstream in self.all if upstream.serves(wanted)]
        if not able and self.all and all(upstream.families for upstream in self.all):
            if wanted.family is not None and wanted.family not in self.families():
                raise not_found("model")
            raise UnsupportedError(f"no server here has a model with {wanted.head} as its answer")
        if not self._waiting and (upstream := self._pick(wanted)):
            self._enter(upstream)
            return upstream
        if len(self._waiting) >= self._max_waiting:
            raise busy("too many requests wait; try again later")
        wanted = replace(wanted, place=asyncio.Future())
        self._waiting.append(wanted)
        self._seat()
        try:
            is_open = any(upstream.serves(wanted) for upstream in self.ready)
            return await asyncio.wait_for(wanted.place, None if is_open else patience_seconds)
        except TimeoutError:
            raise UnavailableError("no server is ready") from None
        except asyncio.CancelledError:
            if wanted.place.done() and not wanted.place.cancelled():
                self._leave(wanted.place.result())
            raise
        finally:
            if wanted in self._waiting:
                self._waiting.remove(wanted)

    def _seat(self) -> None:
        """Give room that there is to those who have waited longest."""
        for wanted in list(self._waiting):
            if not wanted.place.done() and (upstream := self._pick(wanted)):
                self._enter(upstream)
                self._waiting.remove(wanted)
                wanted.place.set_result(upstream)

    def _pick(self, wanted: Wanted) -> Upstream | None:
        """Choose by rendezvous hashing: of all able servers each video has one that is its own.

        The next in its order is taken where that one has many more requests than the idlest.
        """
        able = [one for one in self.ready if one.serves(wanted)]
        least = min((one.num_running for one in able), default=0)
        most = min(self._max_running, least + _SPILL)
        fit = [one for one in able if one.num_running < most]
        return max(fit, key=lambda one: _weight(one.url, wanted.video_key), default=None)

    def _enter(self, upstream: Upstream) -> None:
        upstream.num_running += 1
        upstream.is_idle.clear()

    def _leave(self, upstream: Upstream) -> None:
        upstream.num_running -= 1
        if not upstream.num_running:
            upstream.is_idle.set()
        self._seat()


def _weight(url: str, video_key: str) -> bytes:
    return hashlib.sha256(f"{url}|{video_key}".encode(errors="replace")).digest()
