"""CUDA's Multi-Process Service: whether processes started here would run under it.

A CUDA program asks a control daemon through a folder of pipes, named by a variable, and runs
without the service where nobody answers (nvidia-cuda-mps-control(1)). The daemon writes its process
id into that folder ("Tools and Interface Reference" of NVIDIA's MPS documentation, r575).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PIPE_DIR_VARIABLE = "CUDA_MPS_PIPE_DIRECTORY"
DEFAULT_PIPE_DIR = "/tmp/nvidia-mps"
_PID_FILE = "nvidia-cuda-mps-control.pid"


def mps_daemon_pid(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the process id of the control daemon, None where none runs."""
    folder = environment.get(PIPE_DIR_VARIABLE) or DEFAULT_PIPE_DIR
    try:
        text = (Path(folder) / _PID_FILE).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    is_running = text.isascii() and text.isdecimal() and Path("/proc", text).is_dir()
    return int(text) if is_running else None
