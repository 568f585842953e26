"""The private folder of one running server, beside the regions of its stubs in /dev/shm.

A lock in it tells a living server from a dead one: the server and its stubs inherit the open lock,
so it is held until the last of them has ended, also where the process that started them was killed.
What dead servers left is removed when the next one starts.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from groundserve.serving.events import log_event

SHM_DIR = Path("/dev/shm")

_NAME = re.compile(r"groundserve_[0-9]+_[0-9a-f]{16}")
_LOCK_NAME = "lock"
_ENDING_SECONDS = 5.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A folder that only this user can look into, and the regions that belong to it."""

    path: Path
    lock_fd: int
    """The open lock; a process that inherits it keeps the folder and the regions alive."""

    @classmethod
    def create(cls, parent: Path = SHM_DIR) -> Self:
        """Make a new folder of this process, locked."""
        name = f"groundserve_{os.getpid()}_{secrets.token_hex(8)}"
        # It gets its name when it is locked: one that is found unlocked is dead.
        unlocked = parent / f"{name}.new"
        unlocked.mkdir(mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        lock_fd = os.open(unlocked / _LOCK_NAME, flags, mode=0o600)
        fcntl.flock(lock_fd, fcntl.LOCK_EX)
        return cls(path=unlocked.rename(parent / name), lock_fd=lock_fd)

    @property
    def region_prefix(self) -> str:
        """First part of the names of the regions that belong to the server."""
        return f"{self.path.name}_"

    def regions(self) -> list[Path]:
        """Return the files of its stubs, living or dead."""
        return _regions(self.path)

    def make_regions_private(self) -> None:
        """Take the regions from other users: Boost sets 0644 after it made one."""
        for region in self.regions():
            with suppress(FileNotFoundError):
                if region.stat().st_mode & 0o077:
                    region.chmod(0o600)

    def remove(self) -> None:
        """Remove the regions and the folder; the server has ended."""
        _remove(self.path)
        os.close(self.lock_fd)


def remove_dead(parent: Path = SHM_DIR) -> None:
    """Remove what dead servers of this user left; several processes may do so at once.

    Nothing is followed and nothing of another user is touched, whatever its name.
    """
    for entry in sorted(parent.iterdir()):
        if _NAME.fullmatch(entry.name) and _is_ours(entry, stat.S_ISDIR):
            _remove_if_dead(entry)


def _is_ours(path: Path, is_kind: Callable[[int], bool]) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:  # another process removed it
        return False
    return is_kind(status.st_mode) and status.st_uid == os.geteuid()


def _remove_if_dead(folder: Path) -> None:
    """Remove a folder of this user, into which nobody else can put anything, and its regions.

    The processes of a keeper that was killed end a moment after it. A stub whose server died while
    it began may wait in Triton's own lock for ever (2.51): it is killed.
    """
    is_kept = psutil.pid_exists(int(folder.name.split("_")[1]))
    started = time.monotonic()
    with suppress(FileNotFoundError):  # a removal that was cut short, or goes on
        lock_fd = os.open(folder / _LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            while not _try_lock(lock_fd):
                waited = time.monotonic() - started
                if is_kept or waited >= 2 * _ENDING_SECONDS:
                    return
                if waited >= _ENDING_SECONDS:
                    _kill_processes_of(folder)
                time.sleep(_POLL_SECONDS)
        finally:
            os.close(lock_fd)
    _remove(folder)
    log_event("dead_server_removed", folder=str(folder))


def _try_lock(lock_fd: int) -> bool:
    # flock's lock is on the open file, which children inherit; one of fcntl's ends with this
    # process.
    with suppress(BlockingIOError):
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _kill_processes_of(folder: Path) -> None:
    """Kill those whose command names the folder of a dead keeper, as each of its stubs' does."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended, or is another user's
            if any(str(folder) in word for word in process.cmdline()):
                process.kill()


def _regions(folder: Path) -> list[Path]:
    """Return the regular files of this user whose names begin with the folder's."""
    return [one for one in folder.parent.glob(f"{folder.name}_*") if _is_ours(one, stat.S_ISREG)]


def _remove(folder: Path) -> None:
    for region in _regions(folder):
        region.unlink(missing_ok=True)
    # Last, so that regions always have a folder by which they are found.
    shutil.rmtree(folder, ignore_errors=True)
