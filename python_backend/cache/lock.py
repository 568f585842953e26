"""A lock for each key among all processes that share a cache, in one file.

A key locks one byte of the file, far beyond its end, so nothing needs to be cleaned up. The locks
belong to the open file (`F_OFD_SETLK`), hence they also keep threads apart, and the kernel
releases them when the process dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundserve.runtime.deadline import Deadline
from python_backend.cache.private import open_private

_POLL_SECONDS = 0.01
_MAX_OFFSET = 2**62
_FLOCK = "hhqqi0q"
"""`struct flock` on 64-bit Linux: type, whence, start, length, process id (0 for these locks)."""


@contextmanager
def locked(lock_file: Path, key: str, *, deadline: Deadline) -> Iterator[None]:
    """Hold the lock of a key of 16 evenly spread hex digits or more.

    Raises:
        DeadlineExceededError: Another process held it all the time.
        OSError: The file cannot be opened for writing, or is not a private one.
    """
    # Two keys may share a byte; then one waits for the other, which is rare and harmless.
    offset = int(key[:16], 16) % _MAX_OFFSET
    request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    fd = open_private(lock_file, os.O_RDWR | os.O_CREAT)
    try:
        while True:
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
                break
            except OSError as error:
                # fcntl(2) allows either where somebody else holds it.
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            deadline.check()
            # Not F_OFD_SETLKW, which waits without a deadline.
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(fd)
