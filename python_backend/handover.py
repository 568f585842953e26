"""Hand bytes of any size to another process of the server by descriptor, not through /dev/shm.

The bytes lie in sealed anonymous memory, which is gone when the last process that holds it closes
it. Its reference, "PID/DESCRIPTOR/SECRET", goes along with a request, and the receiver opens it
through /proc. Anybody may send a request, so a reference is followed only where the memory's own
name has the secret: no file, and no memory that was not offered, can be reached.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError

_REFERENCE = re.compile(r"([0-9]{1,10})/([0-9]{1,10})/([0-9a-f]{32})")
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@contextmanager
def offered(data: NDArray[np.uint8]) -> Iterator[str]:
    """Copy bytes to memory that other processes of this user can take while the block runs.

    Args:
        data: uint8 (B,), B >= 1.

    Yields:
        The reference to give to `take`. Who knows it can read the bytes.
    """
    secret = secrets.token_hex(16)
    fd = os.memfd_create(_memory_name(secret), os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = np.ascontiguousarray(data).data
        while view:
            # Linux writes 2 GiB at most in one call.
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        yield f"{os.getpid()}/{fd}/{secret}"
    finally:
        os.close(fd)


def take(reference: str) -> NDArray[np.uint8]:
    """Return the bytes that are offered, uint8 (B,), read-only and not copied.

    Raises:
        InvalidRequestError: It is no reference, or nothing is offered under it.
        OSError: The process has no file descriptor left.
    """
    match = _REFERENCE.fullmatch(reference)
    # One answer for all that is wrong, so that nobody can probe for processes and descriptors.
    fd = _open(*match.groups()) if match else None
    if fd is None:
        raise InvalidRequestError("the reference must name memory that this server offers")
    try:
        # The mapping keeps the memory after the descriptor is closed, here and at the giver's. It
        # is sealed, so it cannot change or shrink under the reader (SIGBUS).
        return np.frombuffer(mmap.mmap(fd, 0, prot=mmap.PROT_READ), np.uint8)
    finally:
        os.close(fd)


def _open(pid: str, descriptor: str, secret: str) -> int | None:
    path = f"/proc/{pid}/fd/{descriptor}"
    # What the kernel shows for such memory, which never had a name in a file system.
    name = f"/memfd:{_memory_name(secret)} (deleted)"
    try:
        if os.readlink(path) != name:  # opening another kind of file could have an effect
            return None
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # says nothing about the reference
            raise
        return None
    # The number may have become another file's in between.
    if os.readlink(f"/proc/self/fd/{fd}") != name or fcntl.fcntl(fd, fcntl.F_GET_SEALS) != _SEALS:
        os.close(fd)
        return None
    return fd


def _memory_name(secret: str) -> str:
    return f"groundserve_{secret}"
