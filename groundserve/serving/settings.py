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

_TAIL_BYTES = 64 * 1024
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_NO_SURPRISES = os.O_NONBLOCK | os.O_NOCTTY  # a FIFO would wait for a reader


def model_environment(
    *,
    engine_id: str,
    allowed_roots: Sequence[Path],
    cache_dir: Path | None,
    cache_bytes: int | None,
) -> dict[str, str]:
    """Return what a server's models are told, as variables of its environment.

    Args:
        engine_id: Identity of the engines, which the models load no others than.
        allowed_roots: Folders below which `file:` URIs may point.
        cache_dir: Folder of the feature cache; no cache where None.
        cache_bytes: Most bytes in it; the models' default where None.

    Raises:
        InvalidRequestError: An allowed root is not a folder, or the cache's settings are wrong.
        UnavailableError: There is no room for the cache.
    """
    # Inside functions, as applications import the stages: see tests/unit/test_structure.py.
    from python_backend.cache import CACHE_BYTES_VARIABLE, CACHE_DIR_VARIABLE, CacheConfig
    from python_backend.engine import ENGINE_ID_VARIABLE
    from python_backend.sources import ALLOWED_ROOTS_VARIABLE, parse_allowed_roots

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
    # As the models will do.
    if config := CacheConfig.from_environment({**os.environ, **variables}):
        config.check()
    return variables


def check_log_file(path: Path | None) -> None:
    """Look whether lines can be appended to a log file, which is made where it does not exist.

    Raises:
        InvalidRequestError: They cannot, or it is something else than a file.
    """
    if path is None:
        return
    try:
        fd = os.open(path, _APPEND | _NO_SURPRISES, 0o600)
    except FileNotFoundError:
        raise _log_refusal(path, f"cannot be made: {path.parent} is no folder") from None
    except OSError as error:
        if path.exists() and not path.is_file():
            raise _log_refusal(path, "must be a file, and is not one") from None
        raise _log_refusal(path, f"cannot be written to: {error.strerror}") from error
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    # /dev/null is let in: it is how an operator asks for no log.
    if not stat.S_ISREG(status.st_mode) and status.st_rdev != os.stat(os.devnull).st_rdev:
        raise _log_refusal(path, "must be a file, and is not one")


def open_log(path: Path | None) -> BinaryIO:
    """Open a log to append to; stderr where there is no path.

    A new file is for this user alone. One that exists keeps its mode, for an operator may have
    given it to those who read logs; the event `log_file_is_shared` says so.
    """
    if path is None:
        return open(sys.stderr.fileno(), "ab", closefd=False)
    # Appending: each write goes to the end, also after logrotate has cut the file (copytruncate).
    fd = os.open(path, _APPEND, 0o600)
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


def _log_refusal(path: Path, problem: str) -> InvalidRequestError:
    return InvalidRequestError(f"the log file (--log-file) {path} {problem}")
