"""Entries as files of one directory, shared by any number of processes of one machine.

A file appears under its name complete (temporary name, then rename), so readers take no lock. It
is not synced to the disk: what a power cut leaves half written, the checksum finds. Each process
computes it once a file, and again when the file was changed: see `verified`.

The least recently used files go first. When an entry was used last is the time of an empty file
beside it: many disks keep no time of access, and a time set on the entry itself would look like a
change of it. Nothing the disk does fails a caller: it costs a hit, is counted, and is logged once a
spell, until something can be written again. On a full disk older entries make room for a new one.

Each use looks at the directory, and at each file once it is open: see `private`. Whatever else has
the name of a file of ours is removed when room is made.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from groundserve.errors import GroundserveError
from groundserve.runtime.deadline import Deadline
from python_backend.cache.entry import CorruptEntryError, Entry, pack, unpack
from python_backend.cache.lock import is_locked, locked
from python_backend.cache.private import (
    NotPrivateError,
    check_private_directory,
    is_private_file,
    open_private,
    prepare_directory,
    remove,
)
from python_backend.cache.verified import VerifiedFiles, has_settled
from python_backend.meter import Meter

logger = logging.getLogger(__name__)

_ENTRY_NAME = re.compile(r"([0-9a-f]{64})\.entry")
_USE_NAME = re.compile(r"([0-9a-f]{64})\.used")
_PARTIAL_NAME = re.compile(r"([0-9a-f]{32})\.partial")
_OUR_NAME = re.compile(rf"lock|{_ENTRY_NAME.pattern}|{_USE_NAME.pattern}|{_PARTIAL_NAME.pattern}")
_TOKEN_LOCK_SECONDS = 1.0  # nobody else has the token, so this is never waited
_FULL = (errno.ENOSPC, errno.EDQUOT)


class EntryStore:
    """The files of one directory; all methods may be called from any thread."""

    def __init__(self, directory: Path, *, max_bytes: int, meter: Meter) -> None:
        """Make the directory where it does not exist, and remove what dead processes left.

        Args:
            directory: For this purpose alone; it is made readable to this user only.
            max_bytes: Ceiling on all files; each writer passes it by one entry at most.
            meter: Where evictions, corrupted entries and failures of the disk are counted.

        Raises:
            InvalidRequestError: Others can change the directory, or it cannot be used; see
                `prepare_directory`.
        """
        self._directory = prepare_directory(directory)
        self._lock_file = self._directory / "lock"
        self._max_bytes = max_bytes
        self._meter = meter
        self._has_failed = False
        self._verified = VerifiedFiles()
        with self._forgiving():
            self._make_room(0)

    def read(self, key: str) -> Entry | None:
        """Return the entry of a key, None where there is no sound one; a bad one is removed."""
        path = self._path(key)
        with self._forgiving(), suppress(FileNotFoundError):
            check_private_directory(self._directory)
            try:
                return self._read(key, path)
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
            try:
                self._write(self._path(key), pieces)
            except OSError as error:
                # One more attempt, with older entries gone; where even that leaves too little room,
                # none go.
                if error.errno not in _FULL or not self._may_fit(num_bytes, total_bytes):
                    raise
                total_bytes = self._make_room(num_bytes, freeing=num_bytes)
                self._write(self._path(key), pieces)
            self._meter.set_cache_bytes(total_bytes + num_bytes)
            if self._has_failed:
                self._has_failed = False
                logger.warning("the feature cache is usable again")

    @contextmanager
    def locked(self, key: str, *, deadline: Deadline) -> Iterator[None]:
        """Hold the lock of a key; where the disk has no room for locks, hold none.

        Args:
            key: 64 hex digits.
            deadline: When to stop waiting.

        Raises:
            DeadlineExceededError: Another process held it all the time.
        """
        with ExitStack() as stack:
            with self._forgiving():
                self._reopen()
                stack.enter_context(locked(self._lock_file, key, deadline=deadline))
            yield

    def _reopen(self) -> None:
        """Make the directory anew where somebody removed it, and look at it again."""
        with suppress(FileExistsError):
            self._directory.mkdir(mode=0o700)
        check_private_directory(self._directory)

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}.entry"

    def _use_path(self, key: str) -> Path:
        return self._directory / f"{key}.used"

    def _read(self, key: str, path: Path) -> Entry:
        # `open` owns the descriptor from here on and closes it.
        with open(open_private(path, os.O_RDONLY), "rb") as file:
            status = os.fstat(file.fileno())
            # Before reading: a file may have any size.
            if status.st_size > self._max_bytes:
                raise CorruptEntryError("it is larger than the whole cache may be")
            may_be_known = has_settled(status)
            # A copy and no mapping: a file cut short under one ends its reader (SIGBUS).
            data = np.fromfile(file, np.uint8)
            # Asked after reading: what was read had not been changed until then.
            is_verified = self._verified.knows(os.fstat(file.fileno()))
        entry = unpack(key, data, is_verified=is_verified)
        if may_be_known and not is_verified:
            self._verified.add(status)
        with suppress(OSError):  # a directory that may only be read
            self._note_use(key)
        return entry

    def _note_use(self, key: str) -> None:
        fd = open_private(self._use_path(key), os.O_WRONLY | os.O_CREAT)
        try:
            os.utime(fd)
        finally:
            os.close(fd)

    def _write(self, path: Path, pieces: list[memoryview]) -> None:
        token = secrets.token_hex(16)
        partial = self._directory / f"{token}.partial"
        with locked(self._lock_file, token, deadline=Deadline.after(_TOKEN_LOCK_SECONDS)):
            try:
                fd = open_private(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                with open(fd, "wb") as file:
                    file.writelines(pieces)
                # Atomic within one directory; readers that have the old file open go on with it.
                partial.rename(path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise

    def _may_fit(self, num_bytes: int, total_bytes: int) -> bool:
        """Tell whether a full disk would have room for an entry without any other one."""
        system = os.statvfs(self._directory)
        return system.f_bavail * system.f_frsize + total_bytes >= num_bytes

    def _make_room(self, num_bytes: int, *, freeing: int = 0) -> int:
        """Evict until so many bytes fit, and return the bytes of the other files then.

        Args:
            num_bytes: Of what is to be written.
            freeing: Evict so many bytes at least, where there are so many.
        """
        files = self._sweep()
        entries = {found[1]: name for name in files if (found := _ENTRY_NAME.fullmatch(name))}
        uses = {found[1]: name for name in files if (found := _USE_NAME.fullmatch(name))}
        # Left by an eviction that ended between the two removals.
        for key in uses.keys() - entries.keys():
            remove(self._directory / uses[key])

        def last_use(key: str) -> int:
            # The entry's own time counts as well: one that was just written has not been read yet.
            names = [entries[key], *filter(None, [uses.get(key)])]
            return max(files[name].st_mtime_ns for name in names)

        total_bytes = sum(status.st_size for status in files.values())
        goal = min(self._max_bytes - num_bytes, total_bytes - freeing)
        for key in sorted(entries, key=last_use):
            if total_bytes <= goal:
                break
            if remove(self._path(key)):
                self._meter.add("cache_evictions")
            remove(self._use_path(key))
            total_bytes -= files[entries[key]].st_size
        self._meter.set_cache_bytes(total_bytes)
        return total_bytes

    def _sweep(self) -> dict[str, os.stat_result]:
        """Return the files of ours by name, without what only has such a name, and leftovers."""
        files: dict[str, os.stat_result] = {}
        with os.scandir(self._directory) as found:
            for file in found:
                if not _OUR_NAME.fullmatch(file.name):
                    continue
                with suppress(FileNotFoundError):
                    status = file.stat(follow_symlinks=False)
                    if is_private_file(status):
                        files[file.name] = status
                    else:
                        with suppress(OSError):  # a directory with files: who needs its name fails
                            remove(self._directory / file.name)
        for name in list(files):
            token = _PARTIAL_NAME.fullmatch(name)
            # A writer that lives holds the lock of its token.
            if token and not is_locked(self._lock_file, token[1]):
                remove(self._directory / name)
                del files[name]
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
