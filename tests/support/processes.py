"""What the kernel says of processes."""

from __future__ import annotations

from pathlib import Path

import psutil


def is_alive(process: psutil.Process) -> bool:
    """Whether a process has not ended, zombies included in those that have."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def peak_rss_mib(pid: int) -> float:
    """Return a process's largest resident memory so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
