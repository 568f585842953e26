"""The heap of a process that runs an engine on the CPU: kept while it works, given back after.

A run allocates and frees the same megabytes layer after layer. What is given back at each `free`
comes back as pages that the kernel clears anew, some 7% of an encode; what is never given back
grows, for blocks of ever changing sizes leave holes between them. So freed blocks are kept, and
every few seconds all free pages, also those in holes, go back at once.
"""

from __future__ import annotations

import ctypes
import threading
import time

from groundserve.limits import MIB

_KEPT_BLOCK_BYTES = 16 * MIB
"""Larger blocks are mappings of their own, gone with `free`. The tensors of a few frames, which an
encoder takes at a time, are smaller; those of a long video are not."""
_KEPT_BYTES = 64 * MIB
"""Free bytes at the heap's end that are kept until the next trim."""
_TRIM_SECONDS = 10.0
"""Between two trims: the pages that a run then needs anew cost it milliseconds."""

# <malloc.h>; a value that is set also ends glibc's raising it.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_heap() -> None:
    """Keep freed blocks, and give back what is free every few seconds until the process ends.

    Call it before the engine is opened: a setting does not move what is allocated already. Where
    the C library is not glibc, which has these calls, nothing changes.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    threading.Thread(target=_trim, args=(libc,), name="trim", daemon=True).start()


def _trim(libc: ctypes.CDLL) -> None:
    while True:
        time.sleep(_TRIM_SECONDS)
        libc.malloc_trim(0)  # lets go of the interpreter's lock meanwhile
