"""Entries as files of one directory, shared by any number of processes of one machine.

A file appears under its name complete (temporary name, then rename), so readers take no lock. It
is not synced to the disk: what a power cut leaves half written, the checksum finds. Each process
computes that once a file, and again when the file was changed.

The least recently used files go first; a file's time of access, which is set here since many disks
keep none, says when it was. Nothing the disk does fails a caller: it costs a hit, is counted, and
is logged once a spell, until something can be written again. On a full disk older entries make
room for a new one.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from groundserve.errors import GroundserveError
from groundserve.runtime.deadline import Deadline
from python_backend.cache.config import WRITABLE_BY_OTHERS, make_private_directory
from python_backend.cache.entry import CorruptEntryError, Entry, pack, unpack
from python_backend.meter import Meter

logger = logging.getLogger(__name__)

_OUR_NAME = re.compile(r"[0-9a-f]{64}\.entry|[0-9a-f]{32}\.partial")
_ABANDONED_SECONDS = 600
"""Age of a half-written file whose writer is taken for dead."""
_SETTLED_SECONDS = 2
"""A file that was changed so recently may change again within one tick of the times of its file
system, and look the same."""
_SPARE_BLOCKS = 16  # of the file system's own, such as a directory that grows
_POLL_SECONDS = 0.01
_FLOCK = "hhqqi0q"
"""`struct flock` on 64-bit Linux: type, whence, start, length, process id (0 for these locks)."""
_NO_SURPRISES = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class EntryStore:
    """The files of one directory; all methods may be called from any thread."""

    def __init__(self, directory: Path, *, max_bytes: int, meter: Meter) -> None:
        """Open a directory of `CacheConfig.prepare`.

        Each writer passes the ceiling on all files by one entry at most.
        """
        self._directory = directory
        self._max_bytes = max_bytes
        self._meter = meter
        self._has_failed = False
        # Key -> how the file looked whose checksum was found to match.
        self._known: dict[str, tuple[int, ...]] = {}
        with self._forgiving():
            self._make_room(0)

    def read(self, key: str) -> Entry | None:
        """Return the entry of a key, None where there is no sound one; a bad one is removed."""
        with self._forgiving(), suppress(FileNotFoundError):
            make_private_directory(self._directory)
            try:
                return self._read(key)
            except CorruptEntryError as error:
                self.discard(key, reason=str(error))
        return None

    def discard(self, key: str, *, reason: str) -> None:
        """Remove an entry that is not what it should be."""
        self._meter.add("cache_corrupted")
        logger.warning("removed a corrupt cache entry: %s", reason)
        with self._forgiving():
            self._path(key).unlink(missing_ok=True)

    def write(self, key: str, entry: Entry) -> None:
        """Store an entry, unless it alone is past the ceiling."""
        pieces = pack(key, entry)
        num_bytes = sum(piece.nbytes for piece in pieces)
        # It would evict everything else and still not fit.
        if num_bytes > self._max_bytes:
            return
        with self._forgiving():
            # Before writing, so that the ceiling holds while the new file grows.
            total_bytes = self._make_room(num_bytes)
            self._write(self._path(key), pieces)
            self._meter.set_cache_bytes(total_bytes + num_bytes)
            if self._has_failed:
                self._has_failed = False
                logger.warning("the feature cache is usable again")

    @contextmanager
    def locked(self, key: str, *, deadline: Deadline) -> Iterator[None]:
        """Hold the lock of a key; where the disk has no room for locks, hold none."""
        with ExitStack() as stack:
            with self._forgiving():
                make_private_directory(self._directory)
                stack.enter_context(locked(self._directory / "lock", key, deadline=deadline))
            yield

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}.entry"

    def _read(self, key: str) -> Entry:
        # `open` owns the descriptor from here on and closes it.
        with open(os.open(self._path(key), os.O_RDONLY | _NO_SURPRISES), "rb") as file:
            status = os.fstat(file.fileno())
            if (
                not stat.S_ISREG(status.st_mode)
                or status.st_uid != os.geteuid()
                or status.st_mode & WRITABLE_BY_OTHERS
            ):
                raise CorruptEntryError("not a regular file of this user alone")
            # Before reading: a file may have any size.
            if status.st_size > self._max_bytes:
                raise CorruptEntryError("it is larger than the whole cache may be")
            has_settled = time.time() - status.st_mtime > _SETTLED_SECONDS
            # A copy and no mapping: a file cut short under one ends its reader (SIGBUS).
            data = np.fromfile(file, np.uint8)
            # Asked after reading: what was read had not been changed until then.
            is_known = self._known.get(key) == _appearance(os.fstat(file.fileno()))
            entry = unpack(key, data, is_verified=is_known)
            if has_settled:
                self._known[key] = _appearance(status)
            with suppress(OSError):  # a disk that may only be read
                os.utime(file.fileno(), ns=(time.time_ns(), status.st_mtime_ns))
        return entry

    def _write(self, path: Path, pieces: list[memoryview]) -> None:
        partial = self._directory / f"{secrets.token_hex(16)}.partial"
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.writelines(pieces)
            # Atomic within one directory; readers that have the old file open go on with it.
            partial.rename(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def _make_room(self, num_bytes: int) -> int:
        """Evict until so many bytes fit, and return the bytes of the other files then."""
        make_private_directory(self._directory)
        files = self._sweep()
        total_bytes = sum(status.st_size for status in files.values())
        disk = os.statvfs(self._directory)
        room = total_bytes + (disk.f_bavail - _SPARE_BLOCKS) * disk.f_frsize
        if num_bytes and num_bytes > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        most_bytes = min(self._max_bytes, room) - num_bytes
        entries = [path for path in files if path.suffix == ".entry"]
        for path in sorted(entries, key=lambda path: files[path].st_atime_ns):
            if total_bytes <= most_bytes:
                break
            with suppress(FileNotFoundError):
                path.unlink()
                self._known.pop(path.stem, None)
                self._meter.add("cache_evictions")
            total_bytes -= files[path].st_size
        self._meter.set_cache_bytes(total_bytes)
        return total_bytes

    def _sweep(self) -> dict[Path, os.stat_result]:
        """Return the files of ours; remove what writers that died left half written."""
        files: dict[Path, os.stat_result] = {}
        for path in self._directory.iterdir():
            if _OUR_NAME.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    status = path.lstat()
                    age_seconds = time.time() - status.st_mtime
                    if path.suffix == ".partial" and age_seconds > _ABANDONED_SECONDS:
                        path.unlink()
                    else:
                        files[path] = status
        return files

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        """Count and log what the disk does in the block instead of raising it."""
        try:
            yield
        except GroundserveError:  # one of them, a passed deadline, is an OSError
            raise
        except OSError as error:
            self._meter.add("cache_failures")
            if not self._has_failed:
                self._has_failed = True
                logger.warning("the feature cache is not usable now: %s", error.strerror)


@contextmanager
def locked(lock_file: Path, key: str, *, deadline: Deadline) -> Iterator[None]:
    """Hold the lock of a key of 16 evenly spread hex digits or more, among all processes.

    A key locks one byte of one file, far beyond its end, so nothing needs to be cleaned up. The
    locks belong to the open file, hence they also keep threads apart, and the kernel releases them
    when the process dies.
    """
    # Two keys may share a byte; then one waits for the other, which is rare and harmless.
    offset = int(key[:16], 16) % 2**62
    request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    fd = os.open(lock_file, os.O_RDWR | os.O_CREAT | _NO_SURPRISES, 0o600)
    try:
        while True:
            # Not F_OFD_SETLKW, which waits without a deadline. fcntl(2) allows either error where
            # somebody else holds it.
            with suppress(BlockingIOError, PermissionError):
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
                break
            deadline.check()
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


def _appearance(status: os.stat_result) -> tuple[int, ...]:
    # It changes when a file is written to or replaced, and not when it is read.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
