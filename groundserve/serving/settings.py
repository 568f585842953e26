"""What an operator set, looked at before anything starts: a wrong value is one error that names it.

The names in messages are those of `groundserve serve` and of `TritonServer`. Triton's log is here,
too: it names videos and, of failures, what they were about.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from groundserve.errors import InvalidRequestError
from groundserve.serving.events import log_event
from python_backend.cache import CACHE_BYTES_VARIABLE, CACHE_DIR_VARIABLE, CacheConfig
from python_backend.engine import ENGINE_ID_VARIABLE
from python_backend.sources import ALLOWED_ROOTS_VARIABLE, parse_allowed_roots

_TAIL_BYTES, _TAIL_LINES = 64 * 1024, 20


def model_environment(
    *,
    engine_id: str,
    allowed_roots: Sequence[Path],
    cache_dir: Path | None,
    cache_bytes: int | None,
) -> dict[str, str]:
    """Return what a server's models are told, as variables of its environment, after a check."""
    roots = os.pathsep.join(map(str, allowed_roots))
    parse_allowed_roots(os.fsencode(roots))
    variables = {ALLOWED_ROOTS_VARIABLE: roots, ENGINE_ID_VARIABLE: engine_id}
    if cache_dir is not None:
        variables[CACHE_DIR_VARIABLE] = str(cache_dir)
    if cache_bytes is not None:
        if cache_bytes <= 0:
            raise InvalidRequestError(f"cache_bytes (--cache-bytes) must be > 0, got {cache_bytes}")
        if cache_dir is None:
            raise InvalidRequestError(
                "cache_bytes (--cache-bytes) goes with cache_dir (--cache-dir), got none"
            )
        variables[CACHE_BYTES_VARIABLE] = str(cache_bytes)
    if config := CacheConfig.from_environment({**os.environ, **variables}):
        config.prepare()
    return variables


def open_log(path: Path | None) -> BinaryIO:
    """Open Triton's log to append to; stderr where there is no path.

    A new file is for this user alone. One that exists keeps its mode, for an operator may have
    given it to those who read logs; the event `log_file_is_shared` says so.
    """
    if path is None:
        return open(sys.stderr.fileno(), "ab", closefd=False)
    try:
        # Appending: each write goes to the end, also after logrotate has cut the file
        # (copytruncate). Not waiting: a FIFO has no reader yet.
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise InvalidRequestError(
            f"the log file (--log-file) {path} cannot be written to: {error.strerror}"
        ) from error
    status = os.fstat(fd)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        log_event("log_file_is_shared", level=logging.WARNING, file=str(path), mode=f"{mode:04o}")
    return open(fd, "ab")


def reason_in_log(path: Path | None, pid: int | None) -> str:
    """Return why a server ended, as the end of its log says, which may hold others' lines."""
    if path is None:
        return "; its log is above"
    try:
        with path.open("rb") as file:
            # The first line that is read may be cut; it is seldom among the last ones.
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode("utf-8", errors="replace").splitlines()
    except OSError as error:  # moved away, or this user may append only
        lines = [f"({error.strerror})"]
    # Much may follow, for 2.51 even crashes then (status -6) if other models do not end in time.
    # "E1123 16:36:56.503082 PID FILE:LINE] "failed to load 'NAME' version 1: Internal: REASON"; in
    # a reason line ends are written as \n, and what follows them is a traceback.
    pattern = re.compile(rf" {pid} .*failed to load '(\w+)' version \d+: (.+?)(?:\\n|\"?$)")
    found = [one for line in lines if (one := pattern.search(line))]
    why = [f"cannot load the model {one[1]}: {one[2]}" for one in found]
    return "\n".join(["; its log says why:", *(why or lines[-_TAIL_LINES:])])
