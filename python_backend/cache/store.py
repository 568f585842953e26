"""Entries as files of one directory, shared by any number of processes of one machine.

A file appears under its name complete (temporary name, then rename), so readers take no lock. It
is not synced to the disk: what a power cut leaves half written, the checksum finds. Each process
computes that once a file, and again when the file was changed.

The least recently used files go first; a file's time of access, which is set here since many disks
keep none, says when it was. Nothing the disk does fails a caller: it costs a hit, is counted, and
is logged once a spell, until something can be written again. On a full disk older entries make
room for a new one. Whatever else has the name of a file of ours is removed when room is made.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from groundserve.errors import GroundserveError
from groundserve.runtime.deadline import Deadline
from python_backend.cache.entry import CorruptEntryError, Entry, pack, unpack
from python_backend.cache.lock import locked
from python_backend.cache.private import (
    NotPrivateError,
    check_private_directory,
    is_private_file,
    open_private,
    remove,
)
from python_backend.meter import Meter

logger = logging.getLogger(__name__)

_OUR_NAME = re.compile(r"lock|[0-9a-f]{64}\.entry|[0-9a-f]{32}\.partial")
_SETTLED_NANOSECONDS = 2_000_000_000
"""A file that was changed so recently may change again within one tick of the times of its file
system, and look the same; no file system that is in use has coarser ones (FAT: 2 s)."""
_MAX_KNOWN = 4096
_SPARE_BLOCKS = 16  # of the file system's own, such as a directory that grows


class EntryStore:
    """The files of one directory; all methods may be called from any thread."""

    def __init__(self, directory: Path, *, max_bytes: int, meter: Meter) -> None:
        """Remove what dead processes left in a directory of `CacheConfig.prepare`.

        Each writer passes the ceiling on all files by one entry at most.
        """
        self._directory = directory
        self._max_bytes = max_bytes
        self._meter = meter
        self._has_failed = False
        # Key -> how the file looked whose checksum was found to match.
        self._known: dict[str, tuple[int, ...]] = {}
        with self._forgiving():
            self._reopen()
            self._make_room(0)

    def read(self, key: str) -> Entry | None:
        """Return the entry of a key, None where there is no sound one; a bad one is removed."""
        with self._forgiving(), suppress(FileNotFoundError):
            check_private_directory(self._directory)
            try:
                return self._read(key)
            except (CorruptEntryError, NotPrivateError) as error:
                self.discard(key, reason=str(error))
        return None

    def discard(self, key: str, *, reason: str) -> None:
        """Remove an entry that is not what it should be."""
        self._meter.add("cache_corrupted")
        logger.warning("removed a corrupt cache entry: %s", reason)
        with self._forgiving():
            remove(self._path(key))

    def write(self, key: str, entry: Entry) -> None:
        """Store an entry, unless it alone is past the ceiling."""
        pieces = pack(key, entry)
        num_bytes = sum(piece.nbytes for piece in pieces)
        # It would evict everything else and still not fit.
        if num_bytes > self._max_bytes:
            return
        with self._forgiving():
            self._reopen()
            # Before writing, so that the ceiling holds while the new file grows.
            total_bytes = self._make_room(num_bytes)
            self._write(self._path(key), pieces)
            self._meter.set_cache_bytes(total_bytes + num_bytes)
            if self._has_failed:
                self._has_failed = False
                logger.warning("the feature cache is usable again")

    @contextmanager
    def locked(self, key: str, *, deadline: Deadline) -> Iterator[None]:
        """Hold the lock of a key; where the disk has no room for locks, hold none.

        Raises:
            DeadlineExceededError: Another process held it all the time.
        """
        with ExitStack() as stack:
            with self._forgiving():
                self._reopen()
                stack.enter_context(locked(self._directory / "lock", key, deadline=deadline))
            yield

    def _reopen(self) -> None:
        """Make the directory anew where somebody removed it, and look at it again."""
        with suppress(FileExistsError):
            self._directory.mkdir(mode=0o700)
        check_private_directory(self._directory)

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}.entry"

    def _read(self, key: str) -> Entry:
        # `open` owns the descriptor from here on and closes it.
        with open(open_private(self._path(key), os.O_RDONLY), "rb") as file:
            status = os.fstat(file.fileno())
            # Before reading: a file may have any size.
            if status.st_size > self._max_bytes:
                raise CorruptEntryError("it is larger than the whole cache may be")
            has_settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NANOSECONDS
            # A copy and no mapping: a file cut short under one ends its reader (SIGBUS).
            data = np.fromfile(file, np.uint8)
            # Asked after reading: what was read had not been changed until then.
            is_known = self._known.get(key) == _appearance(os.fstat(file.fileno()))
            entry = unpack(key, data, is_verified=is_known)
            if has_settled and not is_known:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[key] = _appearance(status)
            with suppress(OSError):  # a disk that may only be read
                os.utime(file.fileno(), ns=(time.time_ns(), status.st_mtime_ns))
        return entry

    def _write(self, path: Path, pieces: list[memoryview]) -> None:
        partial = self._directory / f"{secrets.token_hex(16)}.partial"
        try:
            with open(open_private(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                # Tells others, until this process ends, that somebody writes it.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.writelines(pieces)
                file.flush()
                # Atomic within one directory; readers that have the old file open go on with it.
                partial.rename(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def _make_room(self, num_bytes: int) -> int:
        """Evict until so many bytes fit, and return the bytes of the other files then.

        Raises:
            OSError: The disk has no room for so many, even without any other entry.
        """
        files = self._sweep()
        total_bytes = sum(status.st_size for status in files.values())
        disk = os.statvfs(self._directory)
        room = total_bytes + (disk.f_bavail - _SPARE_BLOCKS) * disk.f_frsize
        if num_bytes and num_bytes > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        most_bytes = min(self._max_bytes, room) - num_bytes
        entries = [name for name in files if name.endswith(".entry")]
        for name in sorted(entries, key=lambda name: files[name].st_atime_ns):
            if total_bytes <= most_bytes:
                break
            if remove(self._directory / name):
                self._meter.add("cache_evictions")
            total_bytes -= files[name].st_size
        self._meter.set_cache_bytes(total_bytes)
        return total_bytes

    def _sweep(self) -> dict[str, os.stat_result]:
        """Return the files of ours by name; remove leftovers and what only has such a name."""
        files: dict[str, os.stat_result] = {}
        with os.scandir(self._directory) as found:
            for file in found:
                if not _OUR_NAME.fullmatch(file.name):
                    continue
                with suppress(FileNotFoundError):
                    status = file.stat(follow_symlinks=False)
                    path = self._directory / file.name
                    if is_private_file(status) and not _is_left_over(path):
                        files[file.name] = status
                    else:
                        with suppress(OSError):  # a directory with files: who needs its name fails
                            remove(path)
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


def _appearance(status: os.stat_result) -> tuple[int, ...]:
    # It changes when a file is written to or replaced, and not when it is read.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _is_left_over(path: Path) -> bool:
    """Whether a file is a half-written one whose writer has ended."""
    if path.suffix != ".partial":
        return False
    with open(open_private(path, os.O_RDONLY), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
