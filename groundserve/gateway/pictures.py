"""What is made of stored videos: in sandboxed processes, a few things at one time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

from groundserve.gateway.access import Owner
from groundserve.gateway.errors import busy, not_found
from groundserve.gateway.settings import GatewaySettings
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline

T = TypeVar("T")
_NUM_WORKERS = 2
_MAX_WAITING = 32
_SECONDS = 120.0
"""Longest time for one frame or clip."""

Make = Callable[..., T]
"""Takes workers, a source and `deadline`, as the functions of `groundserve.clips` do."""


class Pictures:
    """The processes that decode videos for the gateway."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._limits = Limits(max_file_bytes=settings.max_video_bytes)
        self._workers = MediaWorkers(limits=self._limits, num_workers=_NUM_WORKERS)
        self._threads = ThreadPoolExecutor(_NUM_WORKERS, "groundserve-pictures")
        self._num_waiting = 0

    async def make(self, owner: Owner, path: os.PathLike[str], make: Make[T]) -> T:
        """Make something of a stored video; the work ends where nobody waits any more.

        For each key one after the other.
        """
        async with owner.picture if owner.key else nullcontext():
            return await self._make(path, make)

    async def _make(self, path: os.PathLike[str], make: Make[T]) -> T:
        if self._num_waiting >= _MAX_WAITING:
            raise busy("too many frames and clips are being made; try again later")
        is_left = threading.Event()

        def work() -> T:
            deadline = Deadline.after(_SECONDS, is_cancelled=is_left.is_set)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:  # deleted meanwhile, or no file of the spool's
                raise not_found("video") from None
            with VideoSource.from_fd(fd, limits=self._limits) as source:
                return make(self._workers, source, deadline=deadline)

        self._num_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            is_left.set()
            self._num_waiting -= 1

    def close(self) -> None:
        """End the processes, also amid work."""
        self._workers.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
