"""A server of profile `vllm` for tests, and what its vLLM says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from python_backend.generate.vllm_process import UnixConnection
from tests.support.engines import shared_engines
from tests.triton.serve import CACHE_BYTES, Server, serve

WAIT_SECONDS = 600.0


@contextmanager
def serve_vllm(folder: Path, checkpoint: Path, parts) -> Iterator[Server]:
    """Serve a checkpoint; the cache of features is below the folder."""
    engines = shared_engines(checkpoint, profile="vllm", parts=parts)
    settings = {"cache_dir": folder / "cache", "cache_bytes": CACHE_BYTES}
    with serve(engines, folder / "log", **settings) as running:
        yield running


def metric(socket: Path, name: str) -> float:
    """Return the sum of one of vLLM's metrics over its labels."""
    connection = UnixConnection(socket, timeout=60.0)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    found = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    assert found, f"vLLM has no metric {name}"
    return sum(float(line.rpartition(" ")[2]) for line in found)
