"""Closed and open loops of requests, and the windows they are measured in.

A latency counts from when a request was meant to be sent. In an open loop that is its arrival,
however late the generator or the server was: one that waited for its turn to be sent waited.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, TypeVar

from benchmarks._senders import Send
from groundserve.errors import GroundserveError
from groundserve.results import VideoInfo

R = TypeVar("R")

STABLE_WINDOWS = 3
"""As many in a row must agree, as for `perf_analyzer`."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What became of one request; times on the clock of `time.perf_counter`."""

    is_cached: bool
    """Whether it was about a video that was asked about before."""
    due: float
    """When it was meant to be sent."""
    sent: float
    """When it was."""
    done: float
    """When its answer, or refusal, was there."""
    code: str
    """"ok", or the error's class."""
    info: VideoInfo | None
    """What the server says of its work; None of an error."""

    @property
    def seconds(self) -> float:
        """Time from when it was meant to be sent."""
        return self.done - self.due


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How a load is measured."""

    seconds: float
    """Length of a window."""
    warm_up_seconds: float
    """Before the first."""
    most: int
    """Windows of a load; a closed loop ends earlier where it is stable."""
    stability: float
    """By how much the largest of three windows' rates, and mean latencies, may be above the
    smallest; 0.1 is 10%, the default of `perf_analyzer`."""


@dataclass(frozen=True, kw_only=True)
class Measured(Generic[R]):
    """One load as it went."""

    samples: list[Sample]
    """All requests, those of the warm-up too."""
    bounds: list[float]
    """Where windows begin and end: one more than there are windows."""
    readings: list[R]
    """Of the server, at each of the bounds."""
    is_stable: bool | None
    """Whether the last three windows agree; None of an open loop, whose windows are as many as
    were asked for."""


@dataclass(kw_only=True)
class _Recorder:
    """Sends requests, numbered from `number` on, and keeps what became of them."""

    send: Send
    kinds: Iterator[bool]
    number: int
    samples: list[Sample] = field(default_factory=list)

    async def ask(self, due: float) -> None:
        number, is_cached = self.number, next(self.kinds)
        self.number += 1
        sent = time.perf_counter()
        try:
            info, code = await self.send(number, is_cached=is_cached), "ok"
        except GroundserveError as error:
            info, code = None, type(error).__name__
        self.samples.append(
            Sample(
                is_cached=is_cached,
                due=due,
                sent=sent,
                done=time.perf_counter(),
                code=code,
                info=info,
            )
        )


async def closed_loop(
    send: Send,
    read: Callable[[], R],
    *,
    num_clients: int,
    kinds: Iterator[bool],
    windows: Windows,
    first_number: int = 0,
) -> Measured[R]:
    """Keep so many requests open until three windows agree, or as long as may be.

    Args:
        send: Asks one request.
        read: Reads the server's counters; called in another thread.
        num_clients: Each sends its next request when the last one was answered.
        kinds: For each request whether its video is a known one.
        windows: How it is measured.
        first_number: Of the requests.
    """
    recorder = _Recorder(send=send, kinds=kinds, number=first_number)
    is_over = False

    async def client() -> None:
        while not is_over:
            await recorder.ask(time.perf_counter())

    async with asyncio.TaskGroup() as clients:
        for _ in range(num_clients):
            clients.create_task(client())
        await asyncio.sleep(windows.warm_up_seconds)
        bounds, readings = [time.perf_counter()], [await asyncio.to_thread(read)]
        is_stable = False
        while not is_stable and len(bounds) <= windows.most:
            await asyncio.sleep(bounds[-1] + windows.seconds - time.perf_counter())
            bounds.append(time.perf_counter())
            readings.append(await asyncio.to_thread(read))
            is_stable = stable(recorder.samples, bounds, windows.stability)
        is_over = True
    return Measured(samples=recorder.samples, bounds=bounds, readings=readings, is_stable=is_stable)


async def open_loop(
    send: Send,
    read: Callable[[], R],
    *,
    arrivals: Iterable[float],
    kinds: Iterator[bool],
    windows: Windows,
    first_number: int = 0,
) -> Measured[R]:
    """Send requests when they arrive, whatever becomes of those before; wait for all answers.

    `arrivals` are seconds from the start, increasing; all windows are measured. The other arguments
    are those of `closed_loop`.
    """
    recorder = _Recorder(send=send, kinds=kinds, number=first_number)
    started = time.perf_counter()
    bounds = [
        started + windows.warm_up_seconds + n * windows.seconds for n in range(windows.most + 1)
    ]
    readings: list[R] = []

    async def watch() -> None:
        for bound in bounds:
            await asyncio.sleep(bound - time.perf_counter())
            readings.append(await asyncio.to_thread(read))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        for at in arrivals:
            due = started + at
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.create_task(recorder.ask(due))
    return Measured(samples=recorder.samples, bounds=bounds, readings=readings, is_stable=None)


def stable(samples: list[Sample], bounds: list[float], stability: float) -> bool:
    """Tell whether rates and mean latencies of the last three windows agree.

    Args:
        samples: What was answered so far.
        bounds: Of the windows.
        stability: See `Windows.stability`.
    """
    if len(bounds) <= STABLE_WINDOWS:
        return False
    recent = bounds[-STABLE_WINDOWS - 1 :]
    rates, latencies = [], []
    for start, end in pairwise(recent):
        seconds = [one.seconds for one in samples if one.code == "ok" and start <= one.done < end]
        if not seconds:
            return False
        rates.append(len(seconds) / (end - start))
        latencies.append(sum(seconds) / len(seconds))
    return all(max(values) <= (1 + stability) * min(values) for values in (rates, latencies))
