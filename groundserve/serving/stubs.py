"""The processes of a server by what they do: the stubs above all, one an instance of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundserve.heartbeat import read_heartbeat
from groundserve.serving.processes import ProcessInfo, session_tree

_STUB_NAME = "triton_python_backend_stub"
_WORKER_MODULE = "groundserve.media._worker"

Role = Literal["server", "stub", "worker"]
"""tritonserver itself, a process of a Python model, a process that reads media for one."""


@dataclass(frozen=True)
class Stub:
    """One stub that has not ended."""

    pid: int
    """Process id."""
    model: str
    """Name of its model."""
    region: str
    """Name of its file in /dev/shm; no two stubs ever have the same."""


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """One process of a server as it was seen at one moment."""

    process: ProcessInfo
    """Which process, and the state it was in."""
    role: Role
    """What it does."""
    model: str | None = None
    """Name of a stub's model."""
    heartbeat: str | None = None
    """What a stub's heartbeat showed; None before the first beat, and for other roles."""

    @property
    def is_stopped(self) -> bool:
        """Whether a signal such as SIGSTOP keeps it from running."""
        return self.process.state == "T"

    @property
    def is_traced(self) -> bool:
        """Whether a debugger keeps it from running."""
        return self.process.state == "t"


def find_stubs(server_pid: int) -> set[Stub]:
    """Return the stubs of a server that leads its session."""
    stubs = (_as_stub(process) for process in session_tree(server_pid))
    return {stub for stub in stubs if stub is not None}


def find_sightings(server_pid: int) -> list[Sighting]:
    """Look at a server that leads its session, at its stubs, and at what reads media for them."""
    found = (_as_sighting(process, server_pid) for process in session_tree(server_pid))
    return [sighting for sighting in found if sighting is not None]


def _as_stub(process: ProcessInfo) -> Stub | None:
    # STUB MODEL_REPOSITORY/MODEL/VERSION/model.py REGION ...
    words = process.command_line()
    if len(words) < 3 or Path(words[0]).name != _STUB_NAME:
        return None
    return Stub(pid=process.pid, model=Path(words[1]).parts[-3], region=words[2])


def _as_sighting(process: ProcessInfo, server_pid: int) -> Sighting | None:
    if process.pid == server_pid:
        return Sighting(process=process, role="server")
    if stub := _as_stub(process):
        heartbeat = read_heartbeat(process.pid)
        return Sighting(process=process, role="stub", model=stub.model, heartbeat=heartbeat)
    if _WORKER_MODULE in process.command_line():
        return Sighting(process=process, role="worker")
    return None
