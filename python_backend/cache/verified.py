"""Which files this process has found sound, so that a checksum is computed once and not at a hit.

A file is known by what changes when it is written through the file system: device, inode, size,
times of modification and of the last change of its inode, which nobody can set.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict

from groundserve.media.source import file_identity

MAX_FILES = 4096
"""About 1 MiB of identities; with the released model's features, those of 60 GB or more."""
SETTLED_NANOSECONDS = 2_000_000_000
"""A file that was changed so recently may change again within one tick of the times of its file
system, and look the same; no file system that is in use has coarser ones (FAT: 2 s)."""


class VerifiedFiles:
    """The files whose checksum matched; all methods may be called from any thread."""

    def __init__(self, *, max_files: int = MAX_FILES) -> None:
        """Know none.

        Args:
            max_files: Past so many the one that was asked for longest ago is forgotten.
        """
        self._max_files = max_files
        self._lock = threading.Lock()
        self._known: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def knows(self, status: os.stat_result) -> bool:
        """Whether the file was added and has not been changed since."""
        identity = file_identity(status)
        with self._lock:
            if identity not in self._known:
                return False
            # Least recently asked for first, which is what `add` forgets.
            self._known.move_to_end(identity)
            return True

    def add(self, status: os.stat_result) -> None:
        """Remember a file by its status from before it was read.

        Args:
            status: Of a file that had settled then, see `has_settled`.
        """
        with self._lock:
            self._known[file_identity(status)] = None
            if len(self._known) > self._max_files:
                self._known.popitem(last=False)


def has_settled(status: os.stat_result) -> bool:
    """Whether any change from now on will be seen in the file's times."""
    # ctime, since a write sets it and so does whoever sets mtime back.
    return time.time_ns() - status.st_ctime_ns > SETTLED_NANOSECONDS
