"""A server of one test's own, with an operator's settings, and what its metrics say."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks._load import read_metrics
from groundserve.serving import TritonServer
from tests.reference import REPOSITORY
from tests.triton.protocol import Arrays, Protocol, texts, upload


class Server:
    """A running server and its log."""

    def __init__(self, triton: TritonServer, log_file: Path) -> None:
        self.triton = triton
        self.log_file = log_file

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

    def log_lines(self) -> list[dict[str, Any]]:
        """The lines of JSON in the log, by the command that the documentation gives."""
        command = extract_command(self.log_file)
        lines = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in lines.stdout.splitlines()]


def extract_command(log_file: Path) -> str:
    """The command in docs/operations.md that takes the lines about requests out of a log."""
    text = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    command = re.search(r"<!-- run: requests -->\n```bash\n(.*?)\n```", text, re.DOTALL)
    assert command
    return command[1].replace("/var/log/groundserve/triton.log", str(log_file))


@contextmanager
def serve(engine_dir: Path, log_file: Path, **environment: str) -> Iterator[Server]:
    """Run a server with GROUNDSERVE_<name> variables."""
    triton = TritonServer(engine_dir, http_port=0, grpc_port=0, metrics_port=0, log_file=log_file)
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
