"""Whether there is memory for a second server beside the first, on the host and on the GPU.

What the second will take is not known before; what the first takes now is the estimate.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from groundserve.errors import UnavailableError
from groundserve.limits import MIB
from groundserve.profiles import Device
from groundserve.serving.processes import session_tree

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


class _NvmlMemory(ctypes.Structure):
    # nvmlMemory_t of nvml.h
    _fields_ = tuple((name, ctypes.c_ulonglong) for name in ("total", "free", "used"))


def check_memory(session_id: int, device: Device) -> None:
    """Look whether as much memory is left as the server of a session takes.

    Args:
        session_id: Process id of the server.
        device: Where its engines are.

    Raises:
        UnavailableError: There is less.
    """
    _check("memory", _session_bytes(session_id), _available_bytes())
    if device == "cuda" and (memory := gpu_memory()) is not None:
        _check("memory of the GPU", *memory)


def gpu_memory(
    *, load_library: Callable[[str], Any] = ctypes.CDLL, visible: str | None = None
) -> tuple[int, int] | None:
    """Return (used, free) bytes of the GPU that engines run on, None where it cannot be asked.

    Args:
        load_library: Opens a shared library by name.
        visible: CUDA_VISIBLE_DEVICES; the environment's where None.

    Source: NVML API Reference Guide, "Device Queries": nvmlDeviceGetMemoryInfo.
    """
    try:
        nvml = load_library("libnvidia-ml.so.1")
    except OSError:
        return None
    # NVML and not CUDA: asking CUDA would make a context here, which takes memory of the GPU
    # itself.
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        # NVML counts all GPUs of the machine, CUDA those that are visible.
        first = (visible or os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0]
        handle, memory = ctypes.c_void_p(), _NvmlMemory()
        if first.isdecimal():
            status = nvml.nvmlDeviceGetHandleByIndex_v2(int(first), ctypes.byref(handle))
        else:
            status = nvml.nvmlDeviceGetHandleByUUID(first.encode(), ctypes.byref(handle))
        if status or nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
            return None
        return memory.used, memory.free
    finally:
        nvml.nvmlShutdown()


def _check(kind: str, needed_bytes: int, available_bytes: int) -> None:
    if available_bytes < needed_bytes:
        raise UnavailableError(
            f"a second server needs about {needed_bytes // MIB} MiB of {kind}, as much as the "
            f"first takes now, and {available_bytes // MIB} MiB are left; stop the first and start "
            "the service again instead"
        )


def _session_bytes(session_id: int) -> int:
    """Return what the processes of a session take; pages that they share count once."""
    total = 0
    for process in session_tree(session_id):
        with suppress(OSError):  # it has ended
            # Pss: a page shared by n processes counts 1/n in each. /proc gives KiB.
            total += _field(_PROC / str(process.pid) / "smaps_rollup", "Pss:") * 1024
    return total


def _available_bytes() -> int:
    """Return what the machine has, or what this process's control group (version 2) may take."""
    available = _field(_PROC / "meminfo", "MemAvailable:") * 1024
    with suppress(OSError, ValueError):
        lines = (_PROC / "self" / "cgroup").read_text("ascii").splitlines()
        path = next((line[3:] for line in lines if line.startswith("0::")), "/")
        group = _CGROUPS / path.lstrip("/")
        # In a container the path is the host's, and the mount's root its group.
        group = group if (group / "memory.max").is_file() else _CGROUPS
        limit = int((group / "memory.max").read_text("ascii"))  # "max" is no number: no limit
        current = int((group / "memory.current").read_text("ascii"))
        # Cached pages of files count as used, and are given up when something else needs the room.
        reclaimable = _field(group / "memory.stat", "inactive_file")
        available = min(available, limit - current + reclaimable)
    return available


def _field(path: Path, name: str) -> int:
    for line in path.read_text("ascii", errors="replace").splitlines():
        words = line.split()
        if words and words[0] == name:
            return int(words[1])
    return 0
