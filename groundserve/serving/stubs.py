"""The stubs of a server: one process an instance of a Python model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from groundserve.serving.processes import ProcessInfo, session_tree

_STUB_NAME = "triton_python_backend_stub"


@dataclass(frozen=True)
class Stub:
    """One stub that has not ended."""

    pid: int
    """Process id."""
    model: str
    """Name of its model."""
    region: str
    """Name of its file in /dev/shm; no two stubs ever have the same."""


def find_stubs(server_pid: int) -> set[Stub]:
    """Return the stubs of a server that leads its session."""
    stubs = (_as_stub(process) for process in session_tree(server_pid))
    return {stub for stub in stubs if stub is not None}


def _as_stub(process: ProcessInfo) -> Stub | None:
    # STUB MODEL_REPOSITORY/MODEL/VERSION/model.py REGION ...
    words = process.command_line()
    if len(words) < 3 or Path(words[0]).name != _STUB_NAME:
        return None
    return Stub(pid=process.pid, model=Path(words[1]).parts[-3], region=words[2])
