"""What an operator set, looked at before anything starts: a wrong value is one error that names it.

The names in messages are those of `groundserve serve` and of `TritonServer`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from groundserve.errors import InvalidRequestError

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_NO_SURPRISES = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY  # a FIFO would wait for a reader


def check_cache(environment: Mapping[str, str]) -> None:
    """Look whether the feature cache, if there is to be one, can be used; as its models will.

    Args:
        environment: What the models will be told.

    Raises:
        InvalidRequestError: A setting is wrong, the directory cannot be used, or others than this
            user can change it.
        UnavailableError: There is no room for it.
    """
    from python_backend.cache import CacheConfig

    if config := CacheConfig.from_environment(environment):
        config.check()


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


def _log_refusal(path: Path, problem: str) -> InvalidRequestError:
    return InvalidRequestError(f"the log file (--log-file) {path} {problem}")
