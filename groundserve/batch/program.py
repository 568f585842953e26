"""A module of ours run as a process of its own, spoken to through a connection."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import IO, Any

_POLL_SECONDS = 1.0


class ProgramDiedError(Exception):
    """The process has ended, or does not listen any more."""


class SilentProgramError(Exception):
    """The process said nothing for as long as it may be silent."""


class Program:
    """A running process; it ends with this one, whose end closes the connection."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        log: IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
        is_session: bool = False,
    ) -> None:
        """Start `python -m module FD ARGUMENTS...`.

        Args:
            module: Which ends when it reads the end of its connection, `open_connection(FD)`.
            arguments: Of its command line.
            log: Where its output goes; this process's streams where None.
            environment: Variables beside those of this process.
            is_session: Whether it leads a session, which no Ctrl-C in a terminal reaches.
        """
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                # -P: modules come from PYTHONPATH below, never from the folder it is started in.
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), *arguments],
                pass_fds=[theirs.fileno()],
                start_new_session=is_session,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    **(environment or {}),
                    "PYTHONPATH": os.pathsep.join(os.path.abspath(one) for one in sys.path if one),
                },
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def tell(self, message: object) -> None:
        """Send it anything that pickles.

        Raises:
            ProgramDiedError: It has ended.
        """
        try:
            self._connection.send(message)
        except OSError as error:
            raise ProgramDiedError from error

    def hear(self, seconds: float) -> Any:
        """Return what it says next.

        Args:
            seconds: How long it may be silent.

        Raises:
            ProgramDiedError: It has ended.
            SilentProgramError: It said nothing.
        """
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


def open_connection(arguments: Sequence[str]) -> tuple[Connection[Any, Any], list[str]]:
    """Return what a program talks to, and the rest of its arguments."""
    fd, *rest = arguments[1:]
    return Connection(int(fd)), rest
