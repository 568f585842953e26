"""The processes of a server: how it is started, and its stubs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from groundserve.runtime.processes import session

_STUB_NAME = "triton_python_backend_stub"
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


def find_stubs(server_pid: int) -> set[Stub]:
    """Return the stubs of a server that leads its session."""
    stubs = set()
    for process in session(server_pid):
        with suppress(psutil.NoSuchProcess):
            # STUB MODEL_REPOSITORY/MODEL/VERSION/model.py REGION ...
            words = process.cmdline()
            if len(words) >= 3 and Path(words[0]).name == _STUB_NAME:
                stubs.add(Stub(process.pid, model=Path(words[1]).parts[-3], region=words[2]))
    return stubs


def own_memory_bytes(pid: int) -> int:
    """Return what a process holds of memory, without files and shared memory; 0 if it has ended."""
    with suppress(psutil.NoSuchProcess):
        memory = psutil.Process(pid).memory_info()
        return int(memory.rss - memory.shared)
    return 0
