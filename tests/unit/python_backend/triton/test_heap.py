"""The heap of an engine's process, in a process of its own: what is set there is set for good."""

from __future__ import annotations

import subprocess
import sys

from groundserve.limits import MIB

# Blocks below and above the one that stays free at the end: only a trim gives such a hole back.
PROGRAM = """
import ctypes, time
from pathlib import Path
from python_backend.triton import _heap

NUM_BLOCKS, BLOCK_BYTES = 40, 2**20
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def fill_and_free():
    blocks = [libc.malloc(BLOCK_BYTES) for _ in range(NUM_BLOCKS)]
    top = libc.malloc(1024)  # keeps what is freed below it from being the end of the heap
    for block in blocks:
        ctypes.memset(block, 1, BLOCK_BYTES)
    for block in blocks:
        libc.free(block)
    return top

_heap._TRIM_SECONDS = 0.5
_heap.keep_heap()
before = resident()
fill_and_free()
kept = resident() - before
give_up_at = time.monotonic() + 60
while resident() - before > kept / 2 and time.monotonic() < give_up_at:
    time.sleep(0.05)
print(kept, resident() - before)
"""


def test_freed_blocks_are_kept_and_given_back_after_a_while():
    # Without the setting each would be a mapping of its own, gone with `free`.
    environment = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, left = map(int, done.stdout.split())
    assert kept > 30 * MIB
    assert left < 10 * MIB
