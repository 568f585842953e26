"""Several servers as one: a video goes to the same one each time, past any that is away."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from groundserve import extras
from groundserve.answers import AnswerResult
from groundserve.arguments import Video
from groundserve.batch.row_options import RowOptions
from groundserve.client import Client
from groundserve.errors import (
    DeadlineExceededError,
    EngineMismatchError,
    UnavailableError,
)
from groundserve.options import AnswerOptions, ScoreOptions
from groundserve.results import ScoreResult, VideoInfo
from groundserve.runtime.backoff import Backoff
from groundserve.runtime.closing import Closing
from groundserve.triton_messages import is_decoder_death

PATIENCE_SECONDS = 120.0
"""How long a call goes on while no server takes it. A server that is restarted is back by then."""
_LATE_FACTOR = 10.0
"""How many times as long as it was waited for a server comes after the others."""
_TIMEOUT_SECONDS = 600.0
_PROBE_SECONDS = 60.0


class ServerPool(Closing):
    """Sends each video to the server that its name hashes to, which has its features cached then.

    A server that is overloaded or away is left alone for a while (`Backoff`), longer each time, and
    meanwhile its videos go to the next one of their own order; the others' stay where they are. One
    that let a call run out of time, as one that hangs does, is asked after the others for a while.
    For one thread at a time.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        connect: Callable[[str], Client] = Client,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect lazily."""
        self._servers = {url: connect(url) for url in urls}
        self._backoffs = {url: Backoff() for url in urls}
        self._late_until = dict.fromkeys(self._servers, 0.0)
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._sleep = sleep

    def score(self, *asked: Any, **settings: Any) -> ScoreResult:
        """Have the video's server score it, as `Scorer.score`."""
        return cast(ScoreResult, self._send("score", *asked, **settings))

    def ask(self, *asked: Any, **settings: Any) -> AnswerResult:
        """Have the video's server answer, as `Answerer.ask`."""
        return cast(AnswerResult, self._send("ask", *asked, **settings))

    def _send(
        self,
        method: str,
        video: Video,
        *asked: Any,
        timeout_seconds: float | None = None,
        **settings: Any,
    ) -> Any:
        """Call the video's server, or the next."""
        begun = self._clock()
        order = sorted(rank(video, self._servers), key=lambda url: self._late_until[url] > begun)
        deadline = begun + (_TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds)
        give_up = min(deadline, begun + self._patience_seconds)
        failure = UnavailableError("it was not asked, for it did not answer before")
        while True:
            for url in order:
                remaining = deadline - self._clock()
                if remaining <= 0:
                    raise DeadlineExceededError(
                        f"no server answered within {deadline - begun:.6g} s; allow more time"
                    )
                if (self._backoffs[url].due or 0.0) > self._clock():
                    continue
                called = self._clock()
                try:
                    call = getattr(self._servers[url], method)
                    result = call(video, *asked, timeout_seconds=remaining, **settings)
                except UnavailableError as error:
                    if is_decoder_death(error):  # by the video, which no other server would survive
                        raise
                    self._backoffs[url].fail(self._clock())
                    failure = error
                except DeadlineExceededError:  # the video's fault, or the server's
                    now = self._clock()
                    self._late_until[url] = now + _LATE_FACTOR * (now - called)
                    raise
                else:
                    self._late_until[url] = 0.0
                    self._backoffs[url].succeed(self._clock())
                    return result
            now = self._clock()
            if now >= give_up:
                raise UnavailableError(
                    f"no server took the video for {self._patience_seconds:g} s; "
                    f"the last one said: {failure}"
                )
            dues = [one.due for one in self._backoffs.values() if one.due is not None]
            self._sleep(max(0.0, min(*dues, give_up) - now))

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            server.close()


def rank(video: Video, urls: Iterable[str]) -> list[str]:
    """Return the servers in the order in which a video tries them.

    Rendezvous hashing: without one server, only its own videos move.

    Source: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998.
    """
    name = video if isinstance(video, bytes) else os.fsencode(video)

    def weight(url: str) -> bytes:
        return hashlib.sha256(url.encode() + b"\0" + name).digest()

    return sorted(urls, key=weight, reverse=True)


def common_engine(urls: Sequence[str], options: RowOptions | None = None) -> dict[str, Any]:
    """Return the identity of the engines that all servers have that answer.

    Each is asked about one small video: what a server answers with is the only word of its engines
    that counts.
    """
    video = _small_video()
    found: dict[str, dict[str, Any]] = {}
    silent = UnavailableError("no server is given")
    for url in urls:
        with Client(url, timeout_seconds=_PROBE_SECONDS, retries=2) as client:
            try:
                found[url] = _probe(client, video, options).engine
            except (UnavailableError, DeadlineExceededError) as error:
                silent = UnavailableError(f"no server answers; {url} said: {error}")
    if not found:
        raise silent
    if len({str(engine["id"]) for engine in found.values()}) > 1:
        said = ", ".join(f"{url} has {engine['id']}" for url, engine in found.items())
        raise EngineMismatchError(f"the servers have different engines: {said}; give all the same")
    return next(iter(found.values()))


def _probe(client: Client, video: bytes, options: RowOptions | None) -> VideoInfo:
    """Ask as little as can be."""
    query = "Which engines?"
    if isinstance(options, AnswerOptions):
        # Of the video's two seconds a clip of the run's may be none; raw, each task takes a query.
        least = replace(options, raw=True, max_new_tokens=1, clip_seconds=None)
        return client.ask(video, query, least).info
    return client.score(video, query, ScoreOptions(num_frames=1, top_k=1)).info


def _small_video() -> bytes:
    """Return a video of two grey frames."""
    av = extras.load("av", "serve")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=1, width=64, height=64, pix_fmt="yuv420p")
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
        for _ in range(2):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
