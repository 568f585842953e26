"""A server with an operator's settings, what its metrics say, and what it logs."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from groundserve.limits import MIB
from groundserve.serving import TritonServer
from tests.support.metrics import read_metrics
from tests.support.reference import REPOSITORY
from tests.triton.protocol import Arrays, Protocol, texts, upload

WAIT_SECONDS = 60.0
# Settings of the servers in conftest.py.
LIMITED = {
    "MAX_QUERIES": "2",
    "MAX_QUERY_BYTES": "20",
    "MAX_NUM_FRAMES": "40",
    "MAX_UPLOAD_BYTES": "1500000",
    "MAX_REQUEST_SECONDS": "120.5",
}
CACHE_BYTES = 10**9
MAX_UPLOAD_BYTES = 96 * MIB


class Server:
    """A running server and its log."""

    def __init__(self, triton: TritonServer, log_file: Path) -> None:
        self.triton = triton
        self.log_file = log_file
        self.first_metrics: dict[str, float] = {}
        """What was counted when nothing had been asked; where the fixture keeps it."""

    def ask(self, video: Path, *queries: str, request_id: str = "", **options: Any) -> Arrays:
        """Upload a video and ask; may be called from any thread."""
        return self.send(video.read_bytes(), *queries, request_id=request_id, **options)

    def send(
        self,
        video: bytes,
        *queries: str,
        request_id: str = "",
        timeout_seconds: float | None = None,
        **options: Any,
    ) -> Arrays:
        """As `ask`, with the file's bytes."""
        protocol = Protocol("grpc", self.triton.grpc_address)
        inputs = {
            "VIDEO": upload(video),
            "QUERY": texts(*queries),
            "OPTIONS": texts(json.dumps(options)),
        }
        microseconds = None if timeout_seconds is None else int(timeout_seconds * 1e6)
        try:
            return protocol.infer(
                "videoitg", inputs, timeout_microseconds=microseconds, request_id=request_id
            )
        finally:
            protocol.client.close()

    def metrics(self) -> dict[str, float]:
        """What has been counted, by name and labels, without the common prefix of ours."""
        found = read_metrics(self.triton)
        return {name.removeprefix("groundserve_"): value for name, value in found.items()}

    def growth(self, before: dict[str, float]) -> dict[str, float]:
        """What has been counted since `before`, which `metrics` returned."""
        return {name: value - before[name] for name, value in self.metrics().items()}

    def wait_for_lines(self, request_id: str | None = None) -> list[dict[str, Any]]:
        """The lines of the log, once one is there, or one about a request.

        A process hands its lines to the server's by a thread of their own: an answer may be first.
        """
        give_up_at = time.monotonic() + WAIT_SECONDS
        while True:
            lines = self.log_lines()
            if any(request_id in (None, line["request_id"]) for line in lines):
                return lines
            assert time.monotonic() < give_up_at, lines
            time.sleep(0.05)

    def log_lines(self) -> list[dict[str, Any]]:
        """The lines of JSON in the log, by the command that the documentation gives."""
        command = extract_command(self.log_file)
        lines = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in lines.stdout.splitlines()]


def extract_command(log_file: Path) -> str:
    """The command in docs/operate.md that takes the lines about requests out of a log."""
    text = (REPOSITORY / "docs" / "operate.md").read_text("utf-8")
    command = re.search(r"<!-- run: requests -->\n```bash\n(.*?)\n```", text, re.DOTALL)
    assert command
    return command[1].replace("/var/log/groundserve/triton.log", str(log_file))


@contextmanager
def serve(
    engine_dir: Path,
    log_file: Path,
    *,
    allowed_roots: Sequence[Path] = (),
    cache_dir: Path | None = None,
    cache_bytes: int | None = None,
    **environment: str,
) -> Iterator[Server]:
    """Run a server with arguments of `TritonServer` and GROUNDSERVE_<name> variables."""
    triton = TritonServer(
        engine_dir,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        allowed_roots=allowed_roots,
        cache_dir=cache_dir,
        cache_bytes=cache_bytes,
        log_file=log_file,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(f"GROUNDSERVE_{name}", value)
        triton.start()
    with triton:
        yield Server(triton, log_file)


def in_parallel(number: int, function: Any, items: Any) -> list[Any]:
    """Call the function on all items, so many at a time."""
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(function, items))


def media_workers(server: Server) -> set[psutil.Process]:
    """The processes that read and decode media for a server."""
    found = set()
    for process in psutil.Process(server.triton.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # killed, and perhaps not waited for yet
            if "groundserve.media._worker" in process.cmdline():
                found.add(process)
    return found
