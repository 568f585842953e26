"""How many processor cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def available_cpus(
    pid: int = 0, *, membership: Path = Path("/proc/self/cgroup"), cgroups: Path = _CGROUPS
) -> int:
    """Return the cores that threads of this process can run on side by side, >= 1.

    `os.cpu_count` is the machine's. A process may be bound to some of them (taskset, Slurm), and a
    container's share of time (`docker --cpus`, a Kubernetes limit) is a quota that no affinity
    shows: threads past it all stop until the next period. A quota of 2.5 cores counts as 2.

    Args:
        pid: Whose affinity counts; 0, this process's.
        membership: Text of the kernel about the control groups of this process.
        cgroups: Where their file system is mounted.

    Source: Linux, `Documentation/admin-guide/cgroup-v2.rst` (`cpu.max`) and
    `Documentation/scheduler/sched-bwc.rst` (`cpu.cfs_quota_us`, version 1).
    """
    quotas = [quota for folder in _groups(membership, cgroups) if (quota := _quota(folder))]
    return max(1, int(min([len(os.sched_getaffinity(pid)), *quotas])))


def _groups(membership: Path, cgroups: Path) -> list[Path]:
    """Return the folders of this process's groups and of all above them, which bind it as well.

    Inside a container the path is the host's and mostly not there; the mount's root is its group.
    """
    folders = []
    for line in _read(membership).splitlines():
        # "HIERARCHY:CONTROLLERS:PATH"; a path may hold colons.
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            root = cgroups
        elif "cpu" in controllers.split(","):
            root = cgroups / controllers
            # A mount is named after its controllers ("cpu,cpuacct"); where it is not, "cpu" leads
            # there.
            root = root if root.is_dir() else cgroups / "cpu"
        else:
            continue
        group = root / path.lstrip("/")
        folders += [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return folders


def _quota(folder: Path) -> float | None:
    """Return the cores that a group may use; None: as many as there are."""
    # "QUOTA PERIOD" in microseconds, "max" for no quota; the folder of the root group has no such
    # file.
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if not quota:
        quota = _read(folder / "cpu.cfs_quota_us")
        period = _read(folder / "cpu.cfs_period_us")
    # Version 1 says -1 where there is no quota.
    if quota.strip() in ("", "max", "-1"):
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError:
        return ""
