"""Ray in a process of its own: started, given units, heard, ended with all that it started.

The driver's process never imports Ray. What Ray prints goes to a file, Ctrl-C reaches the driver
alone, and a Ray that breaks down costs the units under way and no more.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from groundserve.batch.program import Program, ProgramDiedError, SilentProgramError
from groundserve.batch.shards import Receipt
from groundserve.batch.units import Unit
from groundserve.batch.work import Work
from groundserve.errors import GroundserveError, MissingExtraError
from groundserve.runtime.closing import Closing

RAY_ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Environment variable, Ray's own, with the address of a Ray that runs already."""
_PROGRAM = "groundserve.batch._cluster_program"
_START_SECONDS = 300.0
"""Ray's own start takes 5 s on two cores, and a minute where many jobs start at once."""
_END_SECONDS = 5.0
"""How long the program may take to end Ray before that is killed."""
_TAIL_LINES = 12
_MAX_FOLDER_CHARACTERS = 34
"""Ray makes sockets below its folder, whose names are 107 characters at most."""


def is_anothers() -> bool:
    """Tell whether the environment names a Ray that runs already; an empty name is none."""
    return bool(os.environ.get(RAY_ADDRESS_VARIABLE))


class ClusterDiedError(Exception):
    """Ray broke down; units that were given and have no receipt were not done."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What Ray has."""

    num_cpus: float
    num_gpus: float
    is_local: bool
    """Whether Ray was started here, for this job."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The workers of a job."""

    work: Work
    num_workers: int
    cpus_each: float
    """Cores that one reserves."""
    gpus_each: float
    """GPUs, or a share of one, that one reserves."""


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Units that are given together."""

    units: tuple[Unit, ...]
    """A receipt tells a unit by its place here."""
    pool: Pool
    max_seconds: float
    """Silence after which Ray is taken to hang."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A unit of the wave was done."""

    place: int
    receipt: Receipt


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The job cannot go on."""

    error: GroundserveError


@dataclass(frozen=True, kw_only=True)
class Ended:
    """No unit of the wave is under way any more; those without a receipt were lost."""


Heard = Resources | Done | Failed | Ended


class Cluster(Closing):
    """A Ray of this machine's, or a connection to the one that RAY_ADDRESS names.

    Whatever ends this process ends it too: it sees its connection close.
    """

    def __init__(self) -> None:
        """Start it, which takes some seconds; `resources` tells when it is ready.

        Raises:
            MissingExtraError: Ray is not installed.
        """
        if importlib.util.find_spec("ray") is None:
            raise MissingExtraError("batch", "ray")
        self._folders = _folders()
        self._log = self._folders[0] / "ray.log"
        # Copies of videos and the like go with the folder, however their process ended.
        environment = _environment() | {"TMPDIR": str(self._folders[0])}
        try:
            with self._log.open("wb") as log:
                self._program = Program(
                    *(_PROGRAM, *map(str, self._folders)),
                    log=log,
                    environment=environment,
                    is_session=True,
                )
        except BaseException:
            self._remove()
            raise

    def resources(self) -> Resources:
        """Wait until Ray is ready.

        Raises:
            ClusterDiedError: It did not start.
        """
        heard = self._hear(_START_SECONDS)
        assert isinstance(heard, Resources)
        return heard

    def run(self, wave: Wave) -> Iterator[Done]:
        """Do a wave, in any order; what is not yielded by the end was lost.

        Raises:
            ClusterDiedError: Ray broke down.
            GroundserveError: The job cannot go on.
        """
        try:
            self._program.tell(wave)
        except ProgramDiedError as error:
            raise ClusterDiedError(self._last_words()) from error
        while True:
            heard = self._hear(wave.max_seconds)
            if isinstance(heard, Ended):
                return
            if isinstance(heard, Failed):
                raise heard.error
            assert isinstance(heard, Done)
            yield heard

    def close(self) -> None:
        """End Ray and every process that it started here."""
        try:
            self._program.end(_END_SECONDS)
        finally:  # with a second Ctrl-C at once
            self._program.kill()
            _kill_session(self._program.pid)
            self._remove()

    def _hear(self, seconds: float) -> Heard:
        try:
            heard: Heard = self._program.hear(seconds)
        except ProgramDiedError as error:
            raise ClusterDiedError(self._last_words()) from error
        except SilentProgramError as error:
            raise ClusterDiedError(f"nothing was heard of it for {seconds:.0f} s") from error
        return heard

    def _remove(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(lines) or "it printed nothing"


def _folders() -> Sequence[Path]:
    """Make a folder for what workers write; the last is Ray's, which may need a shorter name."""
    folders = [tempfile.mkdtemp(prefix="groundserve-ray-")]
    if len(folders[0]) > _MAX_FOLDER_CHARACTERS:
        folders.append(tempfile.mkdtemp(prefix="groundserve-ray-", dir="/tmp"))
    return [*map(Path, folders)]


def _environment() -> dict[str, str]:
    """Return Ray's settings, those that the user has not set."""
    settings = {
        # Told nobody, and quiet: what the job says comes from its receipts.
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        # Else what still works when Ray has ended starts another one, in a folder of its own.
        "RAY_ENABLE_AUTO_CONNECT": "0",
        # Else workers are niced by 15: whoever wants a job to stand back says so (nice).
        "RAY_worker_niceness": "0",
        # Ray 2.60 announces that it will no longer hide GPUs from tasks that reserve none.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    if not is_anothers():
        # Ray listens on all interfaces and runs what it is sent. Without a token of our own it
        # would write one into the user's home.
        settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return {name: value for name, value in settings.items() if name not in os.environ}


def clear_session() -> None:
    """Kill all others of the session that this process leads, and remove the folders of argv."""
    _kill_session(os.getpid())
    for folder in sys.argv[1:]:
        shutil.rmtree(folder, ignore_errors=True)


def _kill_session(session: int) -> None:
    """Kill all others of a session; some may still start others, so until none is left."""
    while pids := _session_pids(session):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _session_pids(session: int) -> Sequence[int]:
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            # "PID (NAME) STATE PPID PGRP SESSION ..."; the name may hold anything.
            fields = Path("/proc", entry, "stat").read_text("utf-8", "replace")
        except OSError:
            continue
        state, _, _, of_session, *_ = fields.rpartition(")")[2].split()
        if int(of_session) == session and state not in "ZX" and int(entry) != os.getpid():
            found.append(int(entry))
    return found
