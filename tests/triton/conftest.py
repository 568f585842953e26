"""Real servers on the `cpu` engine directory, each shared by all tests that its settings suit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundserve.serving import TritonServer
from python_backend.pipeline import Pipeline
from tests.triton.program import Serve, serving
from tests.triton.protocol import Protocol, RejectedError
from tests.triton.serve import CACHE_BYTES, LIMITED, MAX_UPLOAD_BYTES, Server, serve

NUM_INSTANCES = 4  # of every model at most


@pytest.fixture(scope="session")
def video_root(clips, tmp_path_factory) -> Path:
    """The folder that the server may read; a link in it leads outside."""
    root = tmp_path_factory.mktemp("videos")
    shutil.copyfile(clips["carphone_pristine"], root / "carphone.mp4")
    (root / "link out.mp4").symlink_to(clips["carphone_pristine"])
    return root


@pytest.fixture(scope="session")
def served(engine_dirs, video_root, tmp_path_factory) -> Iterator[Server]:
    """The server of every test that leaves it as it was; what is counted goes on counting."""
    log_file = tmp_path_factory.mktemp("log") / "tritonserver.log"
    with serve(engine_dirs["cpu"], log_file, allowed_roots=[video_root]) as running:
        running.first_metrics = running.metrics()
        yield running


@pytest.fixture(scope="session")
def server(served) -> TritonServer:
    return served.triton


@pytest.fixture(scope="session")
def server_log(served) -> Path:
    return served.log_file


@pytest.fixture(scope="session")
def limited(engine_dirs, tmp_path_factory) -> Iterator[Server]:
    """A server with limits of an operator, for which every video is a costly one."""
    log_file = tmp_path_factory.mktemp("limited") / "log"
    with serve(engine_dirs["cpu"], log_file, **LIMITED, LIGHT_PIXELS="1") as running:
        yield running


@pytest.fixture(scope="session")
def cached(engine_dirs, tmp_path_factory) -> Iterator[Server]:
    """A server with a feature cache, which many tests fill: each asks for frames of its own."""
    folder = tmp_path_factory.mktemp("cached")
    settings = {"cache_dir": folder / "cache", "cache_bytes": CACHE_BYTES}
    with serve(engine_dirs["cpu"], folder / "log", **settings) as running:
        yield running


@pytest.fixture(scope="session")
def _harmed(engine_dirs, video_root, tmp_path_factory) -> Iterator[Server]:
    settings = {"allowed_roots": [video_root], "MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES)}
    log_file = tmp_path_factory.mktemp("harmed") / "log"
    with serve(engine_dirs["cpu"], log_file, **settings) as running:
        yield running


@pytest.fixture
def harmed(_harmed, clips) -> Iterator[Server]:
    """The server of tests that kill and replace its processes; the next one finds it sound."""
    yield _harmed
    try:
        for _ in range(NUM_INSTANCES):
            _harmed.ask(clips["vfr"], "When?")
    except RejectedError:
        _harmed.triton.restart()


@pytest.fixture(scope="session")
def service(engine_dirs, tmp_path_factory) -> Iterator[Serve]:
    """`groundserve serve` for tests after which it has come back by itself."""
    with serving(engine_dirs["cpu"], tmp_path_factory.mktemp("service")) as started:
        yield started


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


@pytest.fixture(scope="session")
def timed(vtgllm_engines, video_root, tmp_path_factory) -> Iterator[Server]:
    """A server of a family that is told the time of each frame, with a feature cache."""
    folder = tmp_path_factory.mktemp("timed")
    settings = {"cache_dir": folder / "cache", "cache_bytes": CACHE_BYTES}
    with serve(
        vtgllm_engines("interpolation"), folder / "log", allowed_roots=[video_root], **settings
    ) as running:
        running.first_metrics = running.metrics()
        yield running


@pytest.fixture(scope="session")
def answering(answer_engines, video_root, tmp_path_factory) -> Iterator[Server]:
    """A server of a family that answers in text, with a feature cache."""
    folder = tmp_path_factory.mktemp("answering")
    settings = {"cache_dir": folder / "cache", "cache_bytes": CACHE_BYTES}
    with serve(
        answer_engines("stage3"), folder / "log", allowed_roots=[video_root], **settings
    ) as running:
        running.first_metrics = running.metrics()
        yield running


@pytest.fixture(scope="session")
def grounded(grounded_engines, video_root, tmp_path_factory) -> Iterator[Server]:
    """A server of a family whose vision stage sees segments in two streams."""
    folder = tmp_path_factory.mktemp("grounded")
    settings = {"cache_dir": folder / "cache", "cache_bytes": CACHE_BYTES}
    with serve(
        grounded_engines("phi3.5"), folder / "log", allowed_roots=[video_root], **settings
    ) as running:
        running.first_metrics = running.metrics()
        yield running
