"""`groundserve serve` as a program of its own, with its processes and what it logs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from groundserve import Client, UnavailableError
from groundserve.serving.processes import ending_with_parent
from tests.support.processes import is_alive

# -I: the modules are those that are installed, as for the models of the server.
SERVE = ["-I", "-c", "from groundserve.cli.main import main; main()", "serve"]
ANY_PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--json"]
WAIT_SECONDS = 60.0


@contextmanager
def serving(
    engines: Path,
    folder: Path,
    *,
    options: Sequence[object] = (),
    python: str | Path = sys.executable,
) -> Iterator[Serve]:
    """Serve for the length of a block, and see that the end of it leaves nothing."""
    started = Serve(engines, folder, options=options, python=python)
    try:
        started.wait_until_ready()
        yield started
        started.stop()
    finally:
        started.kill()


class Serve:
    """`groundserve serve` as a program of its own."""

    def __init__(
        self,
        engines: Path,
        folder: Path,
        *,
        options: Sequence[object] = (),
        python: str | Path = sys.executable,
    ) -> None:
        self.log_file = folder / "log"
        command = [python, *SERVE, "--engines", engines, *ANY_PORTS, "--log-file", self.log_file]
        self.errors = folder / "stderr"
        with self.errors.open("wb") as errors:
            self.program = subprocess.Popen(
                ending_with_parent([*map(str, command), *map(str, options)]),
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.root = psutil.Process(self.program.pid)

    def wait_until_ready(self) -> None:
        self.addresses = json.loads(self.program.stdout.readline())
        assert self.addresses["ready"]

    def events(self) -> list[dict[str, Any]]:
        """What the supervisor logged so far; not the steps of the start."""
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

    def score_until_answered(self, video: Path) -> None:
        """Ask as an honest client does, again while the service says that it is UNAVAILABLE."""
        give_up_at = time.monotonic() + WAIT_SECONDS
        with Client(self.addresses["grpc"], timeout_seconds=WAIT_SECONDS) as client:
            while True:
                try:
                    result = client.score(video, "When?")
                except UnavailableError:
                    assert time.monotonic() < give_up_at
                    time.sleep(0.1)
                else:
                    assert result.queries[0].frame_scores.size > 0
                    return

    def family(self, name: str = "") -> list[psutil.Process]:
        """Processes below it whose command line has a word."""
        found = []
        for process in self.root.children(recursive=True):
            with suppress(psutil.Error):  # it has ended meanwhile
                if name in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def kill(self) -> None:
        """End it whatever state it is in."""
        with suppress(psutil.Error):
            for process in [*self.root.children(recursive=True), self.root]:
                process.kill()
        self.program.wait()
        self.program.stdout.close()

    def stop(self) -> None:
        """SIGTERM, and what must then be true."""
        family = self.root.children(recursive=True)
        self.program.send_signal(signal.SIGTERM)
        self.program.wait(60)
        assert self.program.returncode == 0
        assert not [process for process in family if is_alive(process)]
        assert not list(Path("/dev/shm").glob(f"groundserve_{self.program.pid}_*"))
