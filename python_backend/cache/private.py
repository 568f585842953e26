"""Directories and files that this user alone can change, so that what lies there was written here.

An entry has a checksum and no signature: whoever may write to the directory decides what is served.
Hence the directory and each file in it are looked at, at each use, before they are believed. Who
can put another directory in its place cannot make files of this user in there.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_NO_SURPRISES = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
"""Opening must neither follow a link nor wait (a FIFO) nor have an effect (a terminal)."""


class NotPrivateError(OSError):
    """A file or directory that is not of the expected kind, or that others can change."""


def check_private_directory(directory: Path) -> None:
    """Check that a path leads to a directory that only this user and the superuser can change.

    Raises:
        NotPrivateError: It does not; says what to do.
        OSError: It is gone.
    """
    status = directory.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise NotPrivateError(
            errno.ELOOP, "It is a symbolic link; name the directory that it leads to"
        )
    if not stat.S_ISDIR(status.st_mode):
        raise NotPrivateError(errno.ENOTDIR, "It is not a directory")
    if status.st_uid != (user := os.geteuid()):
        raise NotPrivateError(
            errno.EPERM,
            f"It belongs to user {status.st_uid} and this is user {user}: its owner decides what "
            f"is served; as its owner or root: chown {user} {directory}",
        )
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise NotPrivateError(
            errno.EPERM,
            f"It can be changed by other users, who could forge what is served (mode "
            f"{stat.S_IMODE(status.st_mode):04o}); chmod 700 {directory}",
        )


def open_private(path: Path, flags: int) -> int:
    """Open a regular file that nobody else can change; a new one is for this user only.

    Raises:
        NotPrivateError: Something else has this name.
        OSError: It cannot be opened.
    """
    try:
        fd = os.open(path, flags | _NO_SURPRISES, 0o600)
    except OSError as error:
        # A link; a socket, or a FIFO that nobody reads; a directory.
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise NotPrivateError(error.errno, "Not a regular file") from error
        raise
    if is_private_file(os.fstat(fd)):
        return fd
    os.close(fd)
    raise NotPrivateError(errno.EPERM, "Not a regular file of this user alone")


def is_private_file(status: os.stat_result) -> bool:
    """Whether it is a regular file of this user, under one name (none: it was removed since)."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & _WRITABLE_BY_OTHERS
        # A second hard link would be a name in a directory that was never checked.
        and status.st_nlink <= 1
    )


def remove(path: Path) -> bool:
    """Remove whatever has this name, but no directory with files; False where there was nothing."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    # EISDIR is what Linux says; an empty directory goes, a full one raises.
    except IsADirectoryError:
        os.rmdir(path)
    return True
