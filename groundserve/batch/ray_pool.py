"""Ray, as long as a job lasts: started here, or the one that RAY_ADDRESS names."""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from groundserve import extras
from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.limits import MIB
from groundserve.runtime.cpus import available_cpus

RAY_ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Environment variable, Ray's own, with the address of a Ray that runs already."""
_OBJECT_STORE_BYTES = 128 * MIB
"""Answers go through it, one call's at a time; Ray wants 75 MiB or more."""
_MAX_FOLDER_CHARACTERS = 34
"""Ray makes sockets below its folder, whose names are 107 characters at most."""
_MARK_VARIABLE = "GROUNDSERVE_RAY"
"""Environment variable of all that a job's Ray starts."""
_SETTINGS = {
    # Told nobody, and quiet: what the job says comes from its workers.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".?",
    # Else what still works when Ray has ended starts another one, in a folder of its own.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Else workers are niced by 15: whoever wants a job to stand back says so (nice).
    "RAY_worker_niceness": "0",
    # Ray 2.60 announces that it will no longer hide GPUs from tasks that reserve none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Environment of Ray, where the user has not set it."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many workers there are, and what each may use."""

    count: int | None = None
    """How many; as many as there are cores, or GPUs where they use those, if None."""
    cpus_each: float = 1.0
    """Cores of each, and as many threads."""
    gpus_each: float = 0.0
    """GPUs of each; a half lets two share one."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise InvalidRequestError(f"--workers must be >= 1, got {self.count}")
        if not 0 < self.cpus_each < math.inf:
            raise InvalidRequestError(
                f"--cpus-per-worker must be a number > 0, got {self.cpus_each}"
            )
        if not 0 <= self.gpus_each < math.inf:
            raise InvalidRequestError(
                f"--gpus-per-worker must be a number >= 0, got {self.gpus_each}"
            )

    def number(self, *, num_cpus: float, num_gpus: float, is_local: bool) -> int:
        """Return how many workers there are on a Ray with this many cores and GPUs."""
        ratios = [("cores", num_cpus / self.cpus_each)]
        if self.gpus_each:
            ratios.append(("GPUs", num_gpus / self.gpus_each))
        what, most = min(ratios, key=lambda ratio: ratio[1])
        if is_local and most < 1:
            raise InvalidRequestError(
                f"a worker wants more {what} than this machine has; "
                "lower --cpus-per-worker or --gpus-per-worker"
            )
        return self.count or max(1, int(most))


class Pool(NamedTuple):
    """The workers as Ray has them, and what each reserves."""

    number: int
    cpus_each: float
    gpus_each: float


def uses_external_ray() -> bool:
    """Tell whether the environment names a Ray that runs already; an empty name is none."""
    return bool(os.environ.get(RAY_ADDRESS_VARIABLE))


@contextmanager
def started_ray(workers: Workers) -> Iterator[Pool]:
    """Start a Ray of this machine's, or connect to the one that RAY_ADDRESS names.

    Raises:
        UnavailableError: It does not start, or does not answer.
        InvalidRequestError: This machine has no room for a worker.
    """
    is_local = not uses_external_ray()
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if is_local:
        # Ray listens on all interfaces and runs what it is sent. Without a token of our own it
        # would write one into the user's home.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    on_terminate = signal.getsignal(signal.SIGTERM)
    ray = extras.load("ray", "batch")
    with _reaped() as (mark, folders), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            # Copies of videos and the like go with the folder, however their process ended.
            with _quiet(), _environment(TMPDIR=folders[0], **{_MARK_VARIABLE: mark}):
                _init(folders[-1], is_local=is_local)
            signal.signal(signal.SIGTERM, on_terminate)  # for which Ray has a handler of its own
            total = ray.cluster_resources()
            yield _pool(workers, total, is_local=is_local)
        finally:
            ray.shutdown()
            signal.signal(signal.SIGTERM, on_terminate)


def _init(folder: str, *, is_local: bool) -> None:
    local: dict[str, Any] = {
        "address": "local",
        "num_cpus": available_cpus(),
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
        # Ray opens its own folder to everybody; the one around it is this user's.
        "_temp_dir": os.path.join(folder, "r"),
    }
    options = local if is_local else {}
    ray = extras.load("ray", "batch")
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # it has many, and plain ones of Python's
        what = "Ray did not start"
        if not is_local:
            address = os.environ[RAY_ADDRESS_VARIABLE]
            what = f"no Ray can be used at {RAY_ADDRESS_VARIABLE}={address}"
        raise UnavailableError(f"{what}; it said:\n{error}") from error


def _pool(workers: Workers, total: Mapping[str, float], *, is_local: bool) -> Pool:
    num_cpus = total.get("CPU", 0.0)
    number = workers.number(num_cpus=num_cpus, num_gpus=total.get("GPU", 0.0), is_local=is_local)
    cpus_each = workers.cpus_each
    if is_local:  # more workers than cores share them, in parts that Ray can tell apart
        cpus_each = min(cpus_each, math.floor(num_cpus / number * 1000) / 1000)
    return Pool(number=number, cpus_each=cpus_each, gpus_each=workers.gpus_each)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let no C++ print to stderr that it prints nothing."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {**os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in values if name in before})


@contextmanager
def _reaped() -> Iterator[tuple[str, Sequence[str]]]:
    """Yield a mark and folders: what has the mark in its environment ends, and they go.

    The last folder is Ray's, which may need a shorter name.
    """
    prefix = f"gs-ray-{os.getpid()}-"
    folders = [tempfile.mkdtemp(prefix=prefix)]
    if len(folders[0]) > _MAX_FOLDER_CHARACTERS:
        folders.append(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    mark = secrets.token_hex(16)
    command = [sys.executable, "-P", "-m", "groundserve.batch._ray_reaper"]
    path = os.pathsep.join(os.path.abspath(one) for one in sys.path if one)
    with subprocess.Popen(
        [*command, f"{_MARK_VARIABLE}={mark}", *folders],
        stdin=subprocess.PIPE,
        start_new_session=True,  # where no Ctrl-C in a terminal reaches it
        env={**os.environ, "PYTHONPATH": path},
    ):  # the end of the block closes its stdin and waits for it
        yield mark, folders
