"""A server of one test's own, with an operator's settings, and what its metrics say."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from groundserve.serving import TritonServer
from tests.triton.protocol import Arrays, Protocol, texts, upload


class Server:
    """A running server and its log."""

    def __init__(self, triton: TritonServer, log_file: Path) -> None:
        self.triton = triton
        self.log_file = log_file

    def ask(self, video: Path, *queries: str, request_id: str = "", **options: Any) -> Arrays:
        """Upload a video and ask; may be called from any thread."""
        protocol = Protocol("grpc", self.triton.grpc_address)
        inputs = {
            "VIDEO": upload(video.read_bytes()),
            "QUERY": texts(*queries),
            "OPTIONS": texts(json.dumps(options)),
        }
        try:
            return protocol.infer("videoitg", inputs, request_id=request_id)
        finally:
            protocol.client.close()

    def metrics(self) -> dict[str, float]:
        """What has been counted, by name and labels, without the common prefix."""
        with urllib.request.urlopen(f"http://{self.triton.metrics_address}/metrics") as response:
            text = response.read().decode()
        found = re.findall(r"^groundserve_(\S+) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def log_lines(self) -> list[dict[str, Any]]:
        """The lines of JSON in the log, which the server writes as JSON strings."""
        text = self.log_file.read_text("utf-8")
        quoted = re.findall(r'^I\d{4} .*\] ("\{.*\}")$', text, re.MULTILINE)
        return [json.loads(json.loads(line)) for line in quoted]


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
