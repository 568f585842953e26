"""Hand bytes of any size to another process of the server by descriptor, not through /dev/shm.

The bytes lie in sealed anonymous memory, which is gone when the last process that holds it closes
it. A request carries its place in /proc, where the receiver opens it. Only our own models are given
such a place: inner models answer nobody else.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from groundserve.media.source import sealed_copy


@contextmanager
def offered(data: NDArray[np.uint8]) -> Iterator[str]:
    """Copy uint8 (B,) to memory that other processes of this user can `take` meanwhile."""
    fd = sealed_copy(np.ascontiguousarray(data).data)
    try:
        yield f"/proc/{os.getpid()}/fd/{fd}"
    finally:
        os.close(fd)


def take(place: str) -> NDArray[np.uint8]:
    """Return the bytes that are offered, uint8 (B,), read-only and not copied."""
    fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The mapping keeps the memory after the descriptor is closed, here and at the giver's. It
        # is sealed, so it cannot change or shrink under the reader (SIGBUS).
        return np.frombuffer(mmap.mmap(fd, 0, prot=mmap.PROT_READ), np.uint8)
    finally:
        os.close(fd)
