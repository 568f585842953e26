"""The processes of a server as /proc shows them: its session, and what descends from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
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
    """Process id, which the kernel gives to another process later."""
    started_at: int
    """Clock ticks since the machine started; with the id it names one process for good."""
    parent_pid: int = field(compare=False)
    """Changes when the parent dies."""
    session_id: int = field(compare=False)
    """Process id of the session's first process."""
    state: str = field(compare=False)
    """One letter as in proc(5): T when stopped by a signal, t when stopped by a debugger."""

    def command_line(self) -> list[str]:
        """Return its arguments; none when it has ended."""
        try:
            text = (_PROC / str(self.pid) / "cmdline").read_text("utf-8", errors="replace")
        except OSError:
            return []
        return text.split("\0")[:-1]


def ending_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command that runs another, which the kernel kills when who started it has ended.

    That is the *thread* that started it (prctl(2)): see `start_from_lasting_thread`.
    """
    return [sys.executable, "-IS", "-c", _RUN_WITH_PARENT, str(os.getpid()), *command]


def start_from_lasting_thread(
    start: Callable[[], subprocess.Popen[bytes]],
) -> subprocess.Popen[bytes]:
    """Start a process from a thread that ends after it: a start may run in one that ends before."""
    started: list[subprocess.Popen[bytes]] = []
    errors: list[Exception] = []
    is_settled = threading.Event()

    def run() -> None:
        try:
            started.append(start())
        except Exception as error:  # noqa: BLE001 - raised by the caller's thread
            errors.append(error)
        is_settled.set()
        for process in started:
            with suppress(ChildProcessError):  # waited for by others already
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    threading.Thread(target=run, name="server", daemon=True).start()
    is_settled.wait()
    for error in errors:
        raise error
    return started[0]


def session_tree(session_id: int) -> set[ProcessInfo]:
    """Return the processes of a session and all that descend from them."""
    running = _read_processes()
    tree = {process for process in running if process.session_id == session_id}
    # A stub's workers have sessions of their own, so they are found by their parents.
    while found := {p for p in running - tree if p.parent_pid in {q.pid for q in tree}}:
        tree |= found
    return tree


def kill_processes(processes: Set[ProcessInfo]) -> None:
    """Send SIGKILL and wait until they have ended."""
    give_up_at = time.monotonic() + _KILL_TIMEOUT_SECONDS
    # By id and start time together: a number that the kernel gave to another process is spared.
    while (processes := processes & _read_processes()) and time.monotonic() < give_up_at:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _read_processes() -> set[ProcessInfo]:
    infos = (_read_process(int(entry)) for entry in os.listdir(_PROC) if entry.isdecimal())
    return {info for info in infos if info is not None}


def _read_process(pid: int) -> ProcessInfo | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", errors="replace")
    except OSError:
        return None
    # "PID (NAME) STATE PPID PGRP SESSION ...": the name may hold spaces and brackets.
    fields = text.rpartition(")")[2].split()
    # A zombie has ended, and holds nothing but its number.
    if fields[0] in "ZX":
        return None
    return ProcessInfo(
        pid=pid,
        # proc(5) counts from 1 and the pid: field 22 is the 20th behind the name.
        started_at=int(fields[19]),
        parent_pid=int(fields[1]),
        session_id=int(fields[3]),
        state=fields[0],
    )
