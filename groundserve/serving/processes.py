"""The processes of a server: its session, and what descends from it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_STUB_NAME = "triton_python_backend_stub"
_KILL_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 0.01
_RUN_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, which exec keeps
if os.getppid() == int(sys.argv[1]):  # it may have ended before
    os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Stub:
    """One process of a Python model: an instance has one each."""

    pid: int
    model: str
    region: str
    """Name of its file in /dev/shm; no two stubs ever have the same."""


def ending_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command that runs another, which ends with the *thread* that starts it."""
    return [sys.executable, "-IS", "-c", _RUN_WITH_PARENT, str(os.getpid()), *command]


def session_tree(session_id: int) -> set[psutil.Process]:
    """Return the processes of a session and all that descend from them."""
    tree = set(_session(session_id))
    # A stub's workers have sessions of their own, so they are found by their parents.
    for process in list(tree):
        with suppress(psutil.NoSuchProcess):
            tree.update(filter(_is_alive, process.children(recursive=True)))
    return tree


def find_stubs(server_pid: int) -> set[Stub]:
    """Return the stubs of a server that leads its session."""
    stubs = set()
    for process in _session(server_pid):
        with suppress(psutil.NoSuchProcess):
            # STUB MODEL_REPOSITORY/MODEL/VERSION/model.py REGION ...
            words = process.cmdline()
            if len(words) >= 3 and Path(words[0]).name == _STUB_NAME:
                stubs.add(Stub(process.pid, model=Path(words[1]).parts[-3], region=words[2]))
    return stubs


def kill_processes(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL and wait until they have ended."""
    give_up_at = time.monotonic() + _KILL_TIMEOUT_SECONDS
    # A number that the kernel gave to another process is spared: `is_running` looks at both.
    while (processes := list(filter(_is_alive, processes))) and time.monotonic() < give_up_at:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def own_memory_bytes(pid: int) -> int:
    """Return what a process holds of memory, without files and shared memory; 0 if it has ended."""
    with suppress(psutil.NoSuchProcess):
        memory = psutil.Process(pid).memory_info()
        return int(memory.rss - memory.shared)
    return 0


def _session(session_id: int) -> Iterator[psutil.Process]:
    # Not `process_iter`, which may give the former owner of a number that was given away again.
    for pid in psutil.pids():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(pid) == session_id and _is_alive(process := psutil.Process(pid)):
                yield process


def _is_alive(process: psutil.Process) -> bool:
    # A zombie has ended, and holds nothing but its number.
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
