"""The processes of a server as /proc shows them: its session, and what descends from it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

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
class ProcessInfo:
    """One process that has not ended; equal to itself also after it got another parent."""

    pid: int
    started_at: int
    """Clock ticks since the machine started; with the id it names one process for good."""
    parent_pid: int = field(compare=False)  # changes when the parent dies
    session_id: int = field(compare=False)


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


def session_tree(session_id: int) -> set[ProcessInfo]:
    """Return the processes of a session and all that descend from them."""
    running = _read_processes()
    tree = {process for process in running if process.session_id == session_id}
    # A stub's workers have sessions of their own, so they are found by their parents.
    while found := {p for p in running - tree if p.parent_pid in {q.pid for q in tree}}:
        tree |= found
    return tree


def find_stubs(server_pid: int) -> set[Stub]:
    """Return the stubs of a server that leads its session."""
    stubs = (_read_stub(process.pid) for process in session_tree(server_pid))
    return {stub for stub in stubs if stub is not None}


def kill_processes(processes: Set[ProcessInfo]) -> None:
    """Send SIGKILL and wait until they have ended."""
    give_up_at = time.monotonic() + _KILL_TIMEOUT_SECONDS
    # By id and start time together: a number that the kernel gave to another process is spared.
    while (processes := processes & _read_processes()) and time.monotonic() < give_up_at:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def own_memory_bytes(pid: int) -> int:
    """Return what a process holds of memory, without files and shared memory; 0 if it has ended."""
    pages = _read(pid, "statm").split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _read_stub(pid: int) -> Stub | None:
    # STUB MODEL_REPOSITORY/MODEL/VERSION/model.py REGION ...
    words = _read(pid, "cmdline").split("\0")
    if len(words) < 3 or Path(words[0]).name != _STUB_NAME:
        return None
    return Stub(pid=pid, model=Path(words[1]).parts[-3], region=words[2])


def _read_processes() -> set[ProcessInfo]:
    infos = (_read_process(int(entry)) for entry in os.listdir("/proc") if entry.isdecimal())
    return {info for info in infos if info is not None}


def _read_process(pid: int) -> ProcessInfo | None:
    # "PID (NAME) STATE PPID PGRP SESSION ...": the name may hold spaces and brackets.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    # A zombie has ended, and holds nothing but its number.
    if not fields or fields[0] in "ZX":
        return None
    # proc(5) counts from 1 and the pid: field 22 is the 20th behind the name.
    return ProcessInfo(pid, int(fields[19]), parent_pid=int(fields[1]), session_id=int(fields[3]))


def _read(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            return file.read().decode("utf-8", errors="replace")
    except OSError:  # it has ended
        return ""
