"""The process that ends what a job's Ray has left, however the job's own process has ended.

python -m groundserve.batch._ray_reaper MARK FOLDER..., started by `groundserve.batch.ray_pool`.

Seen with Ray 2.60: where its driver is killed while Ray starts, agents and workers live on.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def main() -> None:
    """Wait until the other side of stdin is closed; then kill, and remove the folders."""
    _, mark, *folders = sys.argv
    sys.stdin.buffer.read()
    # Some may still start others, so until none is left.
    while pids := _marked(mark.encode()):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _marked(mark: bytes) -> list[int]:
    """Return the processes that were started with the mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended, or is another user's
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    main()
