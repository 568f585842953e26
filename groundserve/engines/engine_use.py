"""Who serves an engine directory: a lock on its manifest that a server holds and a build looks at.

The lock is flock(2)'s, shared, on the open file: it ends with the process that took it, needs no
right to write, and stays with the old manifest where a build puts another directory in its place.
Nothing depends on it but a line that a build prints: a file system without locks is no error.
"""

from __future__ import annotations

import fcntl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from groundserve.engines.manifest import MANIFEST_NAME

_LOCKS = Path("/proc/locks")


@dataclass(frozen=True)
class EngineUse:
    """That processes serve a directory."""

    pids: tuple[int, ...]
    """Those that can be seen from here; one in another container cannot."""


def mark_in_use(engine_dir: Path) -> IO[bytes] | None:
    """Say that this process serves a directory, until the returned file is closed.

    Returns:
        The file that holds the lock; None where it cannot be locked.
    """
    try:
        file = (engine_dir / MANIFEST_NAME).open("rb")
    except OSError:
        return None
    try:
        # Shared: any number of servers may serve one directory.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def find_use(engine_dir: Path) -> EngineUse | None:
    """Return who serves a directory, None where nobody is known to."""
    with suppress(OSError), (engine_dir / MANIFEST_NAME).open("rb") as file:
        try:
            # Only tried, to see whether a shared lock is in its way; closing the file lets go of
            # it.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return EngineUse(_lock_holders((engine_dir / MANIFEST_NAME).stat().st_ino))
    return None


def _lock_holders(inode: int) -> tuple[int, ...]:
    # "1: FLOCK  ADVISORY  READ 4711 fd:01:262146 0 EOF"; the device is not compared, since some
    # file systems give stat(2) another one.
    words = [line.split() for line in _LOCKS.read_text().splitlines()]
    return tuple(
        sorted(
            int(line[4])
            for line in words
            if len(line) >= 6 and line[1] == "FLOCK" and line[5].endswith(f":{inode}")
        )
    )
