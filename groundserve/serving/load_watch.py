"""End a server that waits without end for a process that died while its model was being loaded.

tritonserver 2.51 was seen to do so where a stub is killed in that time, for want of memory above
all, and whoever asked for the model then waits as well. A stub that ends because its model cannot
be loaded is answered for at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from groundserve.serving.events import log_event
from groundserve.serving.processes import ProcessInfo, kill_processes
from groundserve.serving.stubs import Sighting

HANGING_SECONDS = 10.0
"""How long a load may go on after a process of it ended."""

_POLL_SECONDS = 0.1


@contextmanager
def end_if_load_hangs(look: Callable[[], list[Sighting]]) -> Iterator[None]:
    """Kill the server where a load, for the time of this block, waits for what has died.

    Args:
        look: Returns the processes of the server that live; is called from another thread.
    """
    # What runs already: a stub of another model that is loading is not this block's.
    before = {sighting.process for sighting in look()}
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(look, before, ended), name="loads", daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()


def _watch(
    look: Callable[[], list[Sighting]], before: set[ProcessInfo], ended: threading.Event
) -> None:
    loading: set[ProcessInfo] = set()  # with those that died
    lost_at: float | None = None
    while not ended.wait(_POLL_SECONDS):
        with suppress(OSError):  # such as no descriptor left for reading /proc
            seen = look()
            stubs = {each.process: each for each in seen if each.role == "stub"}
            # The heartbeat begins when a process has loaded.
            loading |= {p for p, each in stubs.items() if each.heartbeat is None} - before
            loading -= {p for p, each in stubs.items() if each.heartbeat is not None}
            # Every process that was seen loading still lives, or has loaded.
            if not loading - stubs.keys():
                continue
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at >= HANGING_SECONDS:
                log_event("load_hangs", level=logging.ERROR, seconds=HANGING_SECONDS)
                kill_processes({each.process for each in seen if each.role == "server"})
                return
