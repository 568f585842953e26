"""Processes that lead a session of their own, and what descends from them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

import psutil

_KILL_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 0.01


def session(session_id: int) -> Iterator[psutil.Process]:
    """Yield the processes of a session."""
    # Not `process_iter`, which may give the former owner of a number that was given away again.
    for pid in psutil.pids():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(pid) == session_id and _is_alive(process := psutil.Process(pid)):
                yield process


def session_tree(session_id: int) -> set[psutil.Process]:
    """Return the processes of a session and all that descend from them."""
    tree = set(session(session_id))
    # A stub's workers have sessions of their own, so they are found by their parents.
    for process in list(tree):
        with suppress(psutil.NoSuchProcess):
            tree.update(filter(_is_alive, process.children(recursive=True)))
    return tree


def kill_processes(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL and wait until they have ended."""
    give_up_at = time.monotonic() + _KILL_TIMEOUT_SECONDS
    # A number that the kernel gave to another process is spared: `is_running` looks at both.
    while (processes := list(filter(_is_alive, processes))) and time.monotonic() < give_up_at:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def is_resource_tracker(process: psutil.Process) -> bool:
    """Tell whether it is Python's, which removes shared memory that others leave when they end."""
    with suppress(psutil.Error):  # it has ended meanwhile
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    return False


def _is_alive(process: psutil.Process) -> bool:
    # A zombie has ended, and holds nothing but its number.
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
