"""`groundserve serve` as a program of its own, with its processes and what it logs."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks._program import WAIT_SECONDS, Program
from groundserve import Client, UnavailableError
from tests.support.processes import is_alive

ANY_PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--json"]


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


class Serve(Program):
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
        words = ("serve", "--engines", engines, *ANY_PORTS, "--log-file", self.log_file, *options)
        super().__init__(folder, *words, python=python)

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

    def stop(self) -> None:
        """SIGTERM, and what must then be true."""
        family = self.root.children(recursive=True)
        self.program.send_signal(signal.SIGTERM)
        self.program.wait(60)
        assert self.program.returncode == 0
        assert not [process for process in family if is_alive(process)]
        assert not list(Path("/dev/shm").glob(f"groundserve_{self.program.pid}_*"))
