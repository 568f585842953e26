"""Ends a worker whose step goes on long after its deadline, and leaves word of what it hung in."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from groundserve.batch.plan import Group, Unit
from groundserve.batch.shards import Staging
from groundserve.batch.storage import open_storage

_NOTE_SECONDS = 10.0
"""How long telling why may take; a disk that hangs may be what the step hangs in."""


@contextmanager
def watched(seconds: float, tell: Callable[[], None]) -> Iterator[None]:
    """End this process with SIGKILL when the block takes longer.

    Code in C that never looks at a deadline cannot be interrupted, so the process goes with it. A
    thread of Python does that after calling `tell`; where the block holds the interpreter's lock,
    which stops all threads, `faulthandler`'s own thread ends the process a little later, untold.

    Args:
        seconds: What the block may take.
        tell: Called first, in another thread; what it raises is lost with the process.
    """

    def end() -> None:
        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(_NOTE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    # Writes where the block hangs to stderr, of which Ray keeps a log.
    faulthandler.dump_traceback_later(seconds + 2 * _NOTE_SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        timer.cancel()


def tell_hang(staging: Staging, group: Group) -> None:
    """Leave word of the group that a worker hung in, before it is ended."""
    name = _hang_name(staging, group)
    open_storage(staging.place).write(name, b"{}\n")


def told_hangs(staging: Staging, unit: Unit) -> list[Group]:
    """Return the groups of a unit in which a worker hung."""
    storage = open_storage(staging.place)
    names = set(storage.names(_hang_folder(staging)))
    return [
        group for group in unit.groups if _hang_name(staging, group).rpartition("/")[2] in names
    ]


def _hang_folder(staging: Staging) -> str:
    return f"staging/{staging.attempt:04d}/hangs"


def _hang_name(staging: Staging, group: Group) -> str:
    return f"{_hang_folder(staging)}/{group.keys[0]}"
