"""A server to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from groundserve.serving import TritonServer

FIRST_REQUESTS = 2
"""How many requests, one after another, a fresh server answers slower than all that follow: so many
instances has the model with most of them, and each starts its media worker when it is first asked,
which takes some 0.2 s."""


def server_of(engines: Path, folder: Path, **settings: Any) -> TritonServer:
    """Return a server on free ports that is not started yet; its log goes to `folder`."""
    settings |= {"grpc_port": 0, "metrics_port": 0}
    return TritonServer(engines, log_file=folder / "tritonserver.log", **settings)
