"""`groundserve` as a program of its own: what it says when it is ready, what it logs, its end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

from groundserve.serving.processes import ending_with_parent

# -I: the modules are those that are installed, as for the models of the server.
COMMAND = ["-I", "-c", "from groundserve.cli.main import main; main()"]
WAIT_SECONDS = 60.0


class Program:
    """One command; it ends with the thread that starts it."""

    def __init__(self, folder: Path, *words: object, python: str | Path = sys.executable) -> None:
        """Start it; its events go to a file of the folder."""
        self.errors = folder / "stderr"
        with self.errors.open("wb") as errors:
            self.program = subprocess.Popen(
                ending_with_parent([*map(str, (python, *COMMAND, *words))]),
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert self.program.stdout is not None, "it is a pipe"
        self._stdout: IO[bytes] = self.program.stdout
        self.root = psutil.Process(self.program.pid)
        self.addresses: dict[str, Any] = {}

    def wait_until_ready(self) -> None:
        """Read what it says with `--json` when it is ready."""
        self.addresses = json.loads(self._stdout.readline())

    def events(self) -> list[dict[str, Any]]:
        """Return what it logged so far; not the steps of the start."""
        lines = self.errors.read_text("utf-8").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in events if event["event"] != "step"]

    def wait_for(self, event: str, after: int = 0) -> dict[str, Any]:
        """Wait until an event is logged, not counting so many of the first events."""
        give_up_at = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < give_up_at:
            for found in self.events()[after:]:
                if found["event"] == event:
                    return found
            time.sleep(0.05)
        raise AssertionError(f"no {event} within {WAIT_SECONDS:.0f} s: {self.events()[after:]}")

    def kill(self) -> None:
        """End it whatever state it is in."""
        with suppress(psutil.Error):
            for process in [*self.root.children(recursive=True), self.root]:
                process.kill()
        self.program.wait()
        self._stdout.close()
