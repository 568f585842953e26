"""A server for the whole folder, and the request that must give the same bits all along."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from groundserve.serving import TritonServer
from tests.hostile.judge import Judge
from tests.media_assets import H264, Asset, asset_maker
from tests.triton.protocol import Arrays, Protocol, texts, upload


@pytest.fixture(scope="session")
def make_asset(tmp_path_factory) -> Callable[[Asset], Path]:
    return asset_maker(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def root(tmp_path_factory, make_asset) -> Path:
    """The folder that the server may read, with traps in it."""
    folder = tmp_path_factory.mktemp("allowed")
    video = make_asset(H264).read_bytes()
    (folder / "video.mp4").write_bytes(video)
    (folder / "empty.mp4").touch()
    (folder / "folder.mp4").mkdir()
    (folder.parent / "secret.mp4").write_bytes(video)
    os.mkfifo(folder / "fifo.mp4")
    for name, target in (
        ("out", folder.parent / "secret.mp4"),
        ("zero", "/dev/zero"),
        ("environment", "/proc/self/environ"),
        ("descriptor", "/proc/self/fd/0"),
        ("loop", folder / "loop.mp4"),
        ("up", folder.parent),
    ):
        (folder / f"{name}.mp4").symlink_to(target)
    return folder


@pytest.fixture(scope="session")
def server(engine_dirs, root, tmp_path_factory) -> Iterator[TritonServer]:
    with TritonServer(
        engine_dirs["cpu"],
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        allowed_roots=[root],
        log_file=tmp_path_factory.mktemp("log") / "tritonserver.log",
    ) as running:
        yield running


@pytest.fixture(scope="session")
def grpc(server) -> Iterator[Protocol]:
    protocol = Protocol("grpc", server.grpc_address)
    yield protocol
    protocol.client.close()


@pytest.fixture(scope="session")
def good(make_asset) -> Arrays:
    """Inputs of a request that is answered."""
    return {
        "VIDEO": upload(make_asset(H264).read_bytes()),
        "QUERY": texts("When?"),
        "OPTIONS": texts('{"num_frames": 4, "sampling": "infer"}'),
    }


@pytest.fixture(scope="session")
def judge(grpc, good) -> Judge:
    return Judge(grpc, good)


@pytest.fixture(scope="session")
def good_answer(grpc, good, server) -> Arrays:
    """What was answered first."""
    return grpc.infer("videoitg", good)


@pytest.fixture(scope="module", autouse=True)
def server_is_unharmed(grpc, good, good_answer, server) -> Iterator[None]:
    """After each file: the same processes, and the same bits for the same request."""
    before = _model_processes(server)
    yield
    assert _model_processes(server) == before
    answer = grpc.infer("videoitg", good)
    for name in set(answer) - {"INFO"}:
        np.testing.assert_array_equal(answer[name], good_answer[name], strict=True)


def _model_processes(server: TritonServer) -> set[int]:
    """Process ids of the server and of what it started itself, not of the media workers."""
    root = psutil.Process(server.pid)
    return {root.pid, *(child.pid for child in root.children())}
