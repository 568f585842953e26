"""A module of ours run as a process of its own, spoken to through a connection."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Pipe
from typing import Any

_POLL_SECONDS = 1.0


class ProgramDiedError(Exception):
    """The process has ended, or does not listen any more."""


class SilentProgramError(Exception):
    """The process said nothing for as long as it may be silent."""


class Program:
    """A running `python -m module FD`; it ends with this one, whose end closes the connection."""

    def __init__(self, module: str) -> None:
        self._connection, theirs = Pipe()
        path = os.pathsep.join(os.path.abspath(one) for one in sys.path if one)
        with theirs:
            self._process = subprocess.Popen(
                # -P: modules come from PYTHONPATH, never from the folder it is started in.
                [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )

    def tell(self, message: object) -> None:
        """Send it anything that pickles, or raise ProgramDiedError."""
        try:
            self._connection.send(message)
        except OSError as error:
            raise ProgramDiedError from error

    def hear(self, seconds: float) -> Any:
        """Return what it says next; raise ProgramDiedError, or SilentProgramError after so long."""
        give_up = time.monotonic() + seconds
        try:
            # In turns: an interrupt that comes just as a wait begins would not end it.
            while not self._connection.poll(_POLL_SECONDS):
                if time.monotonic() > give_up:
                    raise SilentProgramError
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise ProgramDiedError from error

    def end(self, seconds: float) -> None:
        """Close the connection, and kill the process where it has not ended so much later."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
