"""Directories and files that this user alone can change, so that what lies there was written here.

An entry has a checksum and no signature: whoever may write to the directory decides what is served.
Hence the directory, everything above it and each file in it are looked at before they are believed.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.limits import MIB

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_NO_SURPRISES = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
"""Opening must neither follow a link nor wait (a FIFO) nor have an effect (a terminal)."""
_MIN_ROOM_BYTES = MIB


class NotPrivateError(OSError):
    """A file or directory that is not of the expected kind, or that others can change."""


def prepare_directory(directory: Path) -> Path:
    """Make the directory where it does not exist, and check that only this user can change it.

    The superuser can change everything and is no other here; a directory of the superuser's is
    refused all the same when another user serves, who could not write to it.

    Args:
        directory: Absolute. Links above it are followed, now and not again.

    Returns:
        The same directory by a path without links.

    Raises:
        InvalidRequestError: It is a link or no directory, belongs to another user, may be written
            to or replaced by others, or cannot be made, read and written.
    """
    directory = Path(os.path.abspath(directory))
    try:
        parent = directory.parent.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        raise _refusal(
            directory, f"cannot be made in {directory.parent}, which is missing; make that first"
        ) from None
    # The last part is not resolved: a link there is refused below, not followed.
    directory = parent / directory.name
    try:
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    except OSError as error:
        raise _refusal(directory, f"cannot be made: {error.strerror}") from error
    status = directory.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise _refusal(directory, "is a symbolic link; name the directory that it leads to")
    if not stat.S_ISDIR(status.st_mode):
        raise _refusal(directory, "is not a directory; name a directory for the cache alone")
    if status.st_uid != os.geteuid():
        raise _refusal(
            directory,
            f"belongs to user {status.st_uid} and this is user {os.geteuid()}: its owner decides "
            f"what is served; as its owner or root: chown {os.geteuid()} {directory}",
        )
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise _refusal(
            directory,
            f"may be written to by others ({_octal(status)}), who could forge what is served; "
            f"chmod 700 {directory}",
        )
    _check_ancestors(directory)
    # Asked of the kernel: the mode bits say nothing of a read-only file system.
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise _refusal(
            directory,
            f"cannot be read and written ({_octal(status)}); chmod 700 it, or, where its file "
            "system is mounted read-only, name another",
        )
    return directory


def check_room(directory: Path, *, max_bytes: int) -> None:
    """Look whether anything could be kept there; what lies there already may be evicted.

    Args:
        directory: As `prepare_directory` returns it.
        max_bytes: Ceiling on its files; less room is needed where this is less.

    Raises:
        UnavailableError: There is no room for anything.
    """
    system = os.statvfs(directory)
    room = system.f_bavail * system.f_frsize
    with os.scandir(directory) as found:
        for file in found:
            # Evicted by another process meanwhile.
            with suppress(FileNotFoundError):
                room += file.stat(follow_symlinks=False).st_size
    if room < (needed := min(max_bytes, _MIN_ROOM_BYTES)):
        raise UnavailableError(
            f"the cache directory (--cache-dir) {directory} has room for {room} bytes and needs "
            f"{needed} at least; free some, or name a directory on another disk"
        )


def check_private_directory(directory: Path) -> None:
    """Look again at a directory that was prepared: it may be another one by now.

    Raises:
        NotPrivateError: Others can change it, or it is no directory.
        OSError: It is gone.
    """
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotPrivateError(errno.ENOTDIR, "Not a directory")
    if not _is_own(status):
        raise NotPrivateError(errno.EPERM, "The directory can be changed by other users")


def open_private(path: Path, flags: int) -> int:
    """Open a regular file that nobody else can change; a new one is for this user only.

    Args:
        path: The file, in a private directory.
        flags: Of `os.open`: access, and how a new file is made.

    Returns:
        Its descriptor.

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
    # A second hard link would be a name in a directory that was never checked.
    return stat.S_ISREG(status.st_mode) and _is_own(status) and status.st_nlink <= 1


def remove(path: Path) -> bool:
    """Remove whatever has this name, except a directory that is not empty.

    Returns:
        False where there was nothing.

    Raises:
        OSError: It cannot be removed.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    # EISDIR is what Linux says; an empty directory goes, a full one raises.
    except IsADirectoryError:
        os.rmdir(path)
    return True


def _check_ancestors(directory: Path) -> None:
    for ancestor in directory.parents:
        status = ancestor.stat()
        # In a sticky directory, as /tmp is, only its owner and ours may rename what is ours.
        is_open = status.st_mode & _WRITABLE_BY_OTHERS and not status.st_mode & stat.S_ISVTX
        if is_open or status.st_uid not in (0, os.geteuid()):
            raise _refusal(
                directory,
                f"can be replaced by others through {ancestor} (of user {status.st_uid}, "
                f"{_octal(status)}); name one below directories that only you and root may write "
                "to",
            )


def _is_own(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _WRITABLE_BY_OTHERS


def _octal(status: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(status.st_mode):04o}"


def _refusal(directory: Path, problem: str) -> InvalidRequestError:
    return InvalidRequestError(f"the cache directory (--cache-dir) {directory} {problem}")
