"""A process's sign of life that others can read: a thread whose name changes each second.

The name stands in /proc, so it ends with the process and needs neither a file nor a socket. The
thread takes the interpreter's lock for each beat: silence means that no Python code can run.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from pathlib import Path

HEARTBEAT_SECONDS = 1.0

_PREFIX = "heartbeat "
# Few names, over and over: tools that count threads by name keep a series for each.
_NUM_NAMES = 10
# `Thread.name` is Python's alone in 3.11; others can read this one.
_OWN_NAME = Path("/proc/thread-self/comm")


def start_heartbeat() -> None:
    """Beat from now until the process ends, which this does not delay.

    When its parent has ended it ends as well. Triton's own watch does not see to that amid a
    request (2.51: a process that asks the server whether its request was cancelled waits for ever).

    Start it when the process is ready to work: loading may hold the interpreter's lock for long.
    """
    threading.Thread(target=_beat, args=(os.getppid(),), name="heartbeat", daemon=True).start()


def read_heartbeat(pid: int) -> str | None:
    """Return what a process's heartbeat shows now; it differs from beat to beat.

    Returns:
        None where the process has ended, has no heartbeat yet, or none any more.
    """
    try:
        threads = sorted(map(int, os.listdir(f"/proc/{pid}/task")), reverse=True)
    except OSError:
        return None
    for thread in threads:  # the newest first: a heartbeat begins after the threads of an engine
        try:
            name = Path(f"/proc/{pid}/task/{thread}/comm").read_text("utf-8", errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if name.startswith(_PREFIX):
            return name
    return None


def _beat(parent_pid: int) -> None:
    # 15 characters at most; the kernel cuts longer names.
    names = [f"{_PREFIX}{number}".encode() for number in range(_NUM_NAMES)]
    # Opened once, and a beat is one system call: a server has a dozen processes that beat.
    with _OWN_NAME.open("wb", buffering=0) as own_name:
        for name in itertools.cycle(names):
            own_name.write(name)
            if os.getppid() != parent_pid:
                os._exit(1)
            time.sleep(HEARTBEAT_SECONDS)
