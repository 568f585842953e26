"""One load from beginning to end, for a process of its own."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

from benchmarks._arrivals import mix, poisson
from benchmarks._load_summary import summarise
from benchmarks._loops import Measured, Windows, closed_loop, open_loop
from benchmarks._senders import SCHEMES, Send, Way, connected
from benchmarks._server_view import Reading, ServerView
from benchmarks._workload import Workload
from groundserve.errors import GroundserveError


@dataclass(frozen=True, kw_only=True)
class Load:
    """A load on a server."""

    way: Way
    """How it is asked."""
    address: str
    """HOST:PORT of that way's protocol."""
    server_pid: int | None
    """Root of its processes; None where they are not on this machine or not known."""
    workload: Workload
    """What is asked."""
    cached_share: float
    """Share of requests about a video that was asked about before."""
    num_clients: int | None = None
    """Of a closed loop."""
    rate: float | None = None
    """Requests a second of an open loop, in place of `num_clients`."""
    windows: Windows
    """How it is measured."""
    timeout_seconds: float
    """When both sides give a request up."""
    slo_seconds: float
    """An answer within this is good."""
    seed: int
    """Of arrivals and mix."""
    first_number: int
    """Of the requests: no number comes twice in a run."""


def run_load(load: Load) -> dict[str, Any]:
    """Ask about each video once, then put the load on the server.

    Returns:
        The figures; see `benchmarks._load_summary.summarise`.

    Raises:
        GroundserveError: A first request was not answered, or the server went away.
    """
    view = ServerView(SCHEMES[load.way], load.address, load.server_pid)
    try:
        measured = asyncio.run(_run(load, view))
    except ExceptionGroup as group:
        # A loop's tasks end together, but what one error says is all that there is to say.
        known, others = group.split(GroundserveError)
        if others is not None or known is None:
            raise
        raise known.exceptions[0] from None
    finally:
        view.close()
    num_cores = len(os.sched_getaffinity(0))
    return summarise(measured, slo_seconds=load.slo_seconds, num_cores=num_cores)


async def _run(load: Load, view: ServerView) -> Measured[Reading]:
    async with connected(
        load.way, load.address, load.workload, timeout_seconds=load.timeout_seconds
    ) as send:
        num_videos = len(load.workload.videos)
        for number in range(load.first_number, load.first_number + num_videos):
            await send(number, is_cached=load.cached_share > 0)
        return await _loop(load, view, send, load.first_number + num_videos)


async def _loop(load: Load, view: ServerView, send: Send, number: int) -> Measured[Reading]:
    kinds = mix(load.cached_share, seed=load.seed)
    if load.num_clients is not None:
        return await closed_loop(
            send,
            view.read,
            num_clients=load.num_clients,
            kinds=kinds,
            windows=load.windows,
            first_number=number,
        )
    assert load.rate is not None
    seconds = load.windows.warm_up_seconds + load.windows.most * load.windows.seconds
    return await open_loop(
        send,
        view.read,
        arrivals=poisson(load.rate, seconds, seed=load.seed),
        kinds=kinds,
        windows=load.windows,
        first_number=number,
    )
