"""Where an operator wants the cache, and whether that place will do."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from groundserve.errors import InvalidRequestError
from groundserve.limits import GIB

CACHE_DIR_VARIABLE = "GROUNDSERVE_CACHE_DIR"
CACHE_BYTES_VARIABLE = "GROUNDSERVE_CACHE_BYTES"
# Some 290 videos with the released model at 512 frames: 12,800 tokens x 1,152 in float16, 29.5 MB.
DEFAULT_CACHE_BYTES = 8 * GIB
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """A directory that the cache may fill."""

    directory: Path
    """Absolute; on a disk or a tmpfs, for this purpose alone. May be shared on one machine."""
    max_bytes: int = DEFAULT_CACHE_BYTES

    def __post_init__(self) -> None:
        if not self.directory.is_absolute():
            raise InvalidRequestError(
                f"{CACHE_DIR_VARIABLE} must be an absolute path, got {str(self.directory)!r}"
            )
        if self.max_bytes <= 0:
            raise InvalidRequestError(f"{CACHE_BYTES_VARIABLE} must be > 0, got {self.max_bytes}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """Read the two variables; None, no cache, where the directory is unset or empty."""
        directory = environment.get(CACHE_DIR_VARIABLE, "")
        if not directory:
            return None
        text = environment.get(CACHE_BYTES_VARIABLE, str(DEFAULT_CACHE_BYTES))
        if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
            raise InvalidRequestError(
                f"{CACHE_BYTES_VARIABLE} must be a whole number, got {text!r}"
            )
        return cls(directory=Path(directory), max_bytes=int(text))

    def prepare(self) -> None:
        """Make the directory where it does not exist, and check that it will do."""
        try:
            make_private_directory(self.directory)
            # Asked of the kernel: the mode bits say nothing of a read-only file system.
            if not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
                raise PermissionError(0, "It cannot be read and written")
        except OSError as error:
            raise InvalidRequestError(
                f"the cache directory (--cache-dir) {self.directory} cannot be used: "
                f"{error.strerror}"
            ) from error


def make_private_directory(directory: Path) -> None:
    """Make a directory where there is none, and check that only this user and root can change it.

    An entry has a checksum and no signature: whoever may write here decides what is served.
    """
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    status = directory.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "It is a symbolic link; name the directory that it leads to")
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.ENOTDIR, "It is not a directory")
    if status.st_uid != (user := os.geteuid()):
        raise OSError(
            errno.EPERM,
            f"It belongs to user {status.st_uid} and this is user {user}: its owner decides what "
            f"is served; as its owner or root: chown {user} {directory}",
        )
    if status.st_mode & WRITABLE_BY_OTHERS:
        raise OSError(
            errno.EPERM,
            f"It can be changed by other users, who could forge what is served (mode "
            f"{stat.S_IMODE(status.st_mode):04o}); chmod 700 {directory}",
        )
