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
    job = os.getppid()  # may go on without its Ray, whose log it still holds
    sys.stdin.buffer.read()
    # Some may still start others, so until none is left.
    while pids := [pid for pid in _pids() - {job} if _is_of_ray(pid, mark.encode(), folders)]:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _pids() -> set[int]:
    return {int(entry) for entry in os.listdir("/proc") if entry.isdecimal()}


def _is_of_ray(pid: int, mark: bytes, folders: list[str]) -> bool:
    """Tell whether a process was started with the mark, or writes to a file below the folders.

    Some of Ray's write their title over their environment.
    """
    with suppress(OSError):  # it has ended, or is another user's
        if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return True
        for open_file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                place = open_file.readlink()
                if open_file.lstat().st_mode & 0o200 and any(map(place.is_relative_to, folders)):
                    return True
    return False


if __name__ == "__main__":
    main()
