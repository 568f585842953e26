"""One real server on the `cpu` engine directory for the whole folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundserve.serving import TritonServer
from python_backend.pipeline import Pipeline
from tests.triton.protocol import Protocol


@pytest.fixture(scope="session")
def video_root(clips, tmp_path_factory) -> Path:
    """The folder that the server may read; a link in it leads outside."""
    root = tmp_path_factory.mktemp("videos")
    shutil.copyfile(clips["carphone_pristine"], root / "carphone.mp4")
    (root / "link out.mp4").symlink_to(clips["carphone_pristine"])
    return root


@pytest.fixture(scope="session")
def server_log(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("log") / "tritonserver.log"


@pytest.fixture(scope="session")
def server(engine_dirs, video_root, server_log) -> Iterator[TritonServer]:
    with TritonServer(
        engine_dirs["cpu"],
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        allowed_roots=[video_root],
        log_file=server_log,
    ) as running:
        yield running


@pytest.fixture(scope="session")
def grpc(server) -> Iterator[Protocol]:
    protocol = Protocol("grpc", server.grpc_address)
    yield protocol
    protocol.client.close()


@pytest.fixture(scope="session")
def http(server) -> Iterator[Protocol]:
    protocol = Protocol("http", server.http_address)
    yield protocol
    protocol.client.close()


@pytest.fixture(params=["grpc", "http"])
def protocol(request) -> Protocol:
    """Each of the two ways to the server."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def pipeline(engine_dirs) -> Iterator[Pipeline]:
    """The same engines in this process."""
    with Pipeline.open(engine_dirs["cpu"]) as opened:
        yield opened
