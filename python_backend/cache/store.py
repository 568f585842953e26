"""Entries as files of one directory, shared by any number of processes of one machine.

A file appears under its name complete (temporary name, then rename), so readers take no lock. It
is not synced to the disk: what a power cut leaves half written, the checksum finds. Each process
computes it once a file, and again when the file was changed: see `verified`.

The least recently used files go first. When an entry was used last is the time of an empty file
beside it: many disks keep no time of access, and a time set on the entry itself would look like a
change of it. Nothing the disk does fails a caller: it costs a hit, is counted, and is logged once.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from groundserve.deadline import Deadline
from groundserve.errors import GroundserveError
from python_backend.cache.entry import CorruptEntryError, Entry, pack, unpack
from python_backend.cache.lock import is_locked, locked
from python_backend.cache.verified import VerifiedFiles, has_settled
from python_backend.meter import Meter

logger = logging.getLogger(__name__)

_ENTRY_NAME = re.compile(r"([0-9a-f]{64})\.entry")
_USE_NAME = re.compile(r"([0-9a-f]{64})\.used")
_PARTIAL_NAME = re.compile(r"([0-9a-f]{32})\.partial")
_TOKEN_LOCK_SECONDS = 1.0  # nobody else has the token, so this is never waited


class EntryStore:
    """The files of one directory; all methods may be called from any thread."""

    def __init__(self, directory: Path, *, max_bytes: int, meter: Meter) -> None:
        """Make the directory where it does not exist, and remove what dead processes left.

        Args:
            directory: For this purpose alone; it is made readable to this user only.
            max_bytes: Ceiling on all files; each writer passes it by one entry at most.
            meter: Where evictions, corrupted entries and failures of the disk are counted.
        """
        self._directory = directory
        self._lock_file = directory / "lock"
        self._max_bytes = max_bytes
        self._meter = meter
        self._has_failed = False
        self._verified = VerifiedFiles()
        with self._forgiving():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(0)

    def read(self, key: str) -> Entry | None:
        """Return the entry of a key, None where there is no sound one; a bad one is removed."""
        path = self._path(key)
        with self._forgiving(), suppress(FileNotFoundError):
            try:
                return self._read(key, path)
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
        if num_bytes > self._max_bytes:
            return
        with self._forgiving():
            total_bytes = self._make_room(num_bytes)
            self._write(self._path(key), pieces)
            self._meter.set_cache_bytes(total_bytes + num_bytes)

    @contextmanager
    def locked(self, key: str, *, deadline: Deadline) -> Iterator[None]:
        """Hold the lock of a key; where the disk has no room for locks, hold none.

        Raises:
            DeadlineExceededError: Another process held it all the time.
        """
        with ExitStack() as stack:
            with self._forgiving():
                stack.enter_context(locked(self._lock_file, key, deadline=deadline))
            yield

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}.entry"

    def _use_path(self, key: str) -> Path:
        return self._directory / f"{key}.used"

    def _read(self, key: str, path: Path) -> Entry:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size > self._max_bytes:
                raise CorruptEntryError("it is larger than the whole cache may be")
            may_be_known = has_settled(status)
            data = np.fromfile(file, np.uint8)
            # Asked after reading: what was read had not been changed until then.
            is_verified = self._verified.knows(os.fstat(file.fileno()))
        entry = unpack(key, data, is_verified=is_verified)
        if may_be_known and not is_verified:
            self._verified.add(status)
        with suppress(OSError):  # a directory that may only be read
            self._use_path(key).touch(mode=0o600)
        return entry

    def _write(self, path: Path, pieces: list[memoryview]) -> None:
        token = secrets.token_hex(16)
        partial = self._directory / f"{token}.partial"
        with locked(self._lock_file, token, deadline=Deadline.after(_TOKEN_LOCK_SECONDS)):
            try:
                with partial.open("xb") as file:
                    file.writelines(pieces)
                partial.rename(path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise

    def _make_room(self, num_bytes: int) -> int:
        """Evict until so many bytes fit, and return the bytes of the other files then."""
        entries: dict[str, os.stat_result] = {}
        used_ns: dict[str, int] = {}
        total_bytes = 0
        with os.scandir(self._directory) as found:
            for file in found:
                with suppress(FileNotFoundError):
                    if self._is_abandoned(file.name):
                        os.unlink(file)
                        continue
                    status = file.stat(follow_symlinks=False)
                    total_bytes += status.st_size
                    if entry := _ENTRY_NAME.fullmatch(file.name):
                        entries[entry[1]] = status
                    elif use := _USE_NAME.fullmatch(file.name):
                        used_ns[use[1]] = status.st_mtime_ns
        for key in used_ns.keys() - entries.keys():
            self._use_path(key).unlink(missing_ok=True)
        for key, status in entries.items():
            used_ns[key] = max(status.st_mtime_ns, used_ns.get(key, 0))
        for key in sorted(entries, key=used_ns.__getitem__):
            if total_bytes + num_bytes <= self._max_bytes:
                break
            self._path(key).unlink(missing_ok=True)
            self._use_path(key).unlink(missing_ok=True)
            self._meter.add("cache_evictions")
            total_bytes -= entries[key].st_size
        self._meter.set_cache_bytes(total_bytes)
        return total_bytes

    def _is_abandoned(self, name: str) -> bool:
        """Tell whether a partial file's writer is gone: it would hold the lock of its token."""
        partial = _PARTIAL_NAME.fullmatch(name)
        return partial is not None and not is_locked(self._lock_file, partial[1])

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
