"""Kills at random points of a run, each process of it, and resumes until the run is complete."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from groundserve.batch.status import read_status
from tests.batch.scripted import RELEASED

KINDS: dict[str, Callable[[psutil.Process], bool]] = {
    "worker": lambda process: process.name().startswith("ray::_Worker"),
    "ray": lambda process: process.name() == "raylet",
}
"""What can be killed beside the driver: an actor of Ray's, and Ray itself."""
_ENDS = ("driver", "ray")
"""What ends the driver."""
_END_SECONDS = 60.0
"""How long processes may live on without their driver."""
_GIVE_UP_SECONDS = 300.0
"""How long a driver that is left alone may take."""
_MAX_RESUMES = 5


class Killed:
    """A run that is killed and resumed."""

    def __init__(
        self, manifest: Path, out: Path, *options: str, command: Sequence[str] = ()
    ) -> None:
        """Start nothing yet.

        Args:
            manifest: Of the run.
            out: Its directory.
            options: Of `tests.batch.drive`.
            command: What to run in its place, to which `--resume` is added.
        """
        self.out = out
        self.num_starts = 0
        self._log = out.with_name(f"{out.name}.log")
        self.temporary = out.with_name(f"{out.name}-temporary")
        self.temporary.mkdir()
        drive = [sys.executable, "-m", "tests.batch.drive", str(manifest), str(out), *options]
        self._command = [*command] or drive

    def run(self, kinds: Sequence[str], rng: random.Random, *, max_seconds: float) -> list[str]:
        """Start or resume, kill one of each kind in turn, and go on until all rows are answered.

        Held videos beside `out` are released once all were killed.

        Args:
            kinds: What to kill, in order.
            rng: Draws when.
            max_seconds: Longest time between a start or a kill and the next kill.

        Returns:
            Those of `kinds` that were not killed, for the run was complete before.
        """
        left = list(kinds)
        driver = self._start()
        try:
            while left and driver.poll() is None:
                if not self._kill(driver, left[0], rng.uniform(0, max_seconds)):
                    continue
                if left.pop(0) in _ENDS:
                    driver = self._start()
            self.out.with_name(RELEASED).touch()
            for _ in range(_MAX_RESUMES):
                assert driver.wait(_GIVE_UP_SECONDS) == 0, self._log.read_text()
                status = read_status(str(self.out))
                # What was killed twice with the same video is an error that a resume mends.
                if status.num_failed == 0:
                    return left
                driver = self._start()
            raise AssertionError(f"{status.num_failed} rows have no answer: {status.failures}")
        finally:
            driver.kill()
            driver.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        self.num_starts += 1
        with self._log.open("ab") as log:
            environment = {**os.environ, "TMPDIR": str(self.temporary)}
            return subprocess.Popen(
                [*self._command, "--resume"], stdout=log, stderr=log, env=environment
            )

    def _kill(self, driver: subprocess.Popen[bytes], kind: str, seconds: float) -> bool:
        """Kill a process of a kind so much later; return whether there was one by then."""
        try:
            driver.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        else:
            return False
        root = psutil.Process(driver.pid)
        family = [root, *root.children(recursive=True)]
        victims = [root] if kind == "driver" else [it for it in family if _is(it, kind)]
        if not victims:
            return False
        victims[0].kill()
        if kind in _ENDS:
            assert driver.wait(_END_SECONDS) != 0
            _, left = psutil.wait_procs(family, timeout=_END_SECONDS)
            alive = [process for process in left if _is_alive(process)]
            commands = [process.cmdline() for process in alive]
            assert not alive, f"{kind} was killed, and these live on: {commands}"
        return True


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _is(process: psutil.Process, kind: str) -> bool:
    try:
        return _is_alive(process) and KINDS[kind](process)
    except psutil.Error:
        return False
