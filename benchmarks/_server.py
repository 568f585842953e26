"""A server to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc

from groundserve import ScoreOptions
from groundserve.serving import TritonServer

MODEL = "videoitg"
FIRST_REQUESTS = 2
"""How many requests, one after another, a fresh server answers slower than all that follow: so many
instances has the model with most of them, and each starts its media worker when it is first asked,
which takes some 0.2 s."""


def server_of(engines: Path, folder: Path, **settings: Any) -> TritonServer:
    """Return a server on free ports that is not started yet; its log goes to `folder`."""
    settings |= {"grpc_port": 0, "metrics_port": 0}
    return TritonServer(engines, log_file=folder / "tritonserver.log", **settings)


def ensemble_inputs(
    video: bytes, query: str, options: ScoreOptions
) -> list[tritonclient.grpc.InferInput]:
    """Return the public model's inputs, as any client of Triton sends them."""
    inputs = []
    for name, kind, array in (
        ("VIDEO", "UINT8", np.frombuffer(video, np.uint8)),
        ("QUERY", "BYTES", np.array([query.encode()], np.object_)),
        ("OPTIONS", "BYTES", np.array([options.to_json().encode()], np.object_)),
    ):
        tensor = tritonclient.grpc.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs
