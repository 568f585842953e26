"""What a piece of work took: time, processor seconds and memory, its child processes included."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(kw_only=True)
class Usage:
    """One piece of work; memory is each process's largest since it began, summed."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_mib: float = 0.0


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure what this process and all its descendants take; filled in at the block's end."""
    root, usage = os.getpid(), Usage()
    cpu, started = tree_cpu_seconds(root), time.perf_counter()
    yield usage
    usage.wall_seconds = time.perf_counter() - started
    usage.cpu_seconds = tree_cpu_seconds(root) - cpu
    usage.peak_rss_mib = tree_peak_rss_mib(root)


def tree_cpu_seconds(pid: int) -> float:
    """Return the processor seconds of a process, its descendants and those it waited for."""
    total = 0.0
    for process in tree(pid):
        with suppress(psutil.NoSuchProcess):  # its parent, asked after or before, has it
            total += cpu_seconds(process)
    return total


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor seconds of a process and of its children that ended.

    Its own to the nanosecond, where /proc counts hundredths of a second, as it does of those.

    Raises:
        psutil.NoSuchProcess: It ended.

    Source: Linux, include/linux/posix-timers_types.h (`CPUCLOCK_SCHED`), the clock ids that
    clock_getcpuclockid(3) makes.
    """
    times = process.cpu_times()
    try:
        own = time.clock_gettime((~process.pid << 3) | 2)
    except OSError:
        raise psutil.NoSuchProcess(process.pid) from None
    return own + times.children_user + times.children_system


def tree_peak_rss_mib(pid: int) -> float:
    """Return the sum of each living process's largest resident memory so far."""
    total = 0.0
    for process in tree(pid):
        # A process that ended meanwhile has no such folder, or no such line in it.
        with suppress(FileNotFoundError, ProcessLookupError, IndexError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            total += int(status.split("VmHWM:")[1].split()[0]) / 1024
    return round(total, 1)


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all that live below it."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]
