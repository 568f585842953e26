"""The file that Triton's log goes to: it names videos and, of failures, what they were about."""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from groundserve.serving.events import log_event

_TAIL_BYTES = 64 * 1024


def open_log(path: Path | None) -> BinaryIO:
    """Open a log to append to; stderr where there is no path.

    A new file is for this user alone. One that exists keeps its mode, for an operator may have
    given it to those who read logs; the event `log_file_is_shared` says so.
    """
    if path is None:
        return open(sys.stderr.fileno(), "ab", closefd=False)
    # Appending: each write goes to the end, also after logrotate has cut the file (copytruncate).
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        log_event("log_file_is_shared", level=logging.WARNING, file=str(path), mode=f"{mode:04o}")
    return open(fd, "ab")


def failed_loads(path: Path, pid: int) -> list[str]:
    """Return which models a server could not load and why, as the end of its log says.

    Args:
        path: The log, which may hold what other servers wrote.
        pid: Of the server.
    """
    # "E1123 16:36:56.503082 PID FILE:LINE] "failed to load 'NAME' version 1: Internal: REASON"; in
    # a reason line ends are written as \n, and what follows them is a traceback.
    pattern = re.compile(rf" {pid} .*failed to load '(\w+)' version \d+: (.+?)(?:\\n|\"?$)")
    found = map(pattern.search, last_lines(path, _TAIL_BYTES))
    return [f"cannot load the model {one[1]}: {one[2]}" for one in found if one]


def last_lines(path: Path, number: int) -> list[str]:
    """Return the end of a log, however long it is; what cannot be read of it says why."""
    try:
        with path.open("rb") as file:
            # The first line that is read may be cut; it is seldom among the last ones.
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode("utf-8", errors="replace")
    except OSError as error:  # moved away, or this user may append only
        return [f"({error.strerror})"]
    return text.splitlines()[-number:]
