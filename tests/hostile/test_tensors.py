"""Requests that no client library of ours makes: other tensors, raw HTTP bodies."""

from __future__ import annotations

import http.client
import json

import numpy as np
import pytest

from tests.hostile.judge import HANG_SECONDS, check_silent
from tests.triton.protocol import texts, upload

OTHER_TENSORS = {
    "nothing": {"VIDEO": None, "QUERY": None, "OPTIONS": None},
    "video_of_other_type": {"VIDEO": np.zeros(10, np.int32)},
    "video_of_two_dimensions": {"VIDEO": np.zeros((2, 5), np.uint8)},
    "query_of_numbers": {"QUERY": np.zeros(1, np.int64)},
    "two_options": {"OPTIONS": texts("{}", "{}")},
    "two_uris": {"VIDEO": None, "VIDEO_URI": texts("file:///a", "file:///b")},
    "uri_of_bytes": {"VIDEO": None, "VIDEO_URI": upload(b"file:///a")},
    "unknown_input": {"FRAMES": np.zeros(3, np.float32)},
}


def named(name: str, datatype: str, shape: list[object], data: object) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


QUERY = named("QUERY", "BYTES", [1], ["q"])
BODIES = {
    "not_an_object": b"[]",
    "inputs_null": {"inputs": [None]},
    "deep": b"[" * 10**5,
    "negative_shape": {"inputs": [QUERY, named("VIDEO", "UINT8", [-1], [1])]},
    "overflowing_shape": {"inputs": [QUERY, named("VIDEO", "UINT8", [2**62, 4], [1])]},
    "unknown_type": {"inputs": [QUERY, named("VIDEO", "UINT9", [1], [1])]},
    "value_out_of_range": {"inputs": [QUERY, named("VIDEO", "UINT8", [1], [10**30])]},
    "too_few_values": {"inputs": [QUERY, named("VIDEO", "UINT8", [9], [1])]},
    "same_input_twice": {"inputs": [QUERY, QUERY]},
    "unknown_output": {"inputs": [QUERY], "outputs": [{"name": "SECRETS"}]},
    "shared_memory": {
        "inputs": [
            QUERY,
            {
                "name": "VIDEO",
                "datatype": "UINT8",
                "shape": [8],
                "parameters": {
                    "shared_memory_region": "groundserve",
                    "shared_memory_byte_size": 8,
                },
            },
        ]
    },
}
"""Left out: what ends tritonserver 2.51 before any of our code runs; `tests/triton/test_aborts.py`
sends those to a service that starts it again. Its HTTP port is for trusted clients only."""
HEADERS = {
    "header_longer_than_the_body": {"Inference-Header-Content-Length": "1000000000"},
    "negative_header": {"Inference-Header-Content-Length": "-1"},
    "unknown_encoding": {"Content-Encoding": "br"},
}


@pytest.mark.parametrize("changed", OTHER_TENSORS.values(), ids=OTHER_TENSORS)
def test_other_tensors_are_refused(changed, judge):
    judge.refusal(**changed)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_other_http_bodies_are_refused(body, server):
    post(server, body if isinstance(body, bytes) else json.dumps(body).encode(), {})


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_other_http_headers_are_refused(headers, server):
    post(server, json.dumps({"inputs": [QUERY]}).encode(), headers)


@pytest.mark.parametrize("model", ["", "../videoitg", "videoitg/versions/99", "x" * 4000])
def test_other_models_are_refused(model, server):
    post(server, b"{}", {}, path=f"/v2/models/{model}/infer")


def post(server, body: bytes, headers: dict[str, str], path: str = "/v2/models/videoitg/infer"):
    """Send a body and check that Triton refuses it, silently."""
    connection = http.client.HTTPConnection(server.http_address, timeout=HANG_SECONDS)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    assert response.status >= 400, text
    check_silent(json.loads(text)["error"])
