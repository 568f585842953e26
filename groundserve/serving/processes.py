"""The processes of a server as /proc shows them: its session, and what descends from it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
_KILL_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 0.01


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
