"""What callers are told while a process is dead, or its model is loaded again: docs/serve.md."""

from __future__ import annotations

import psutil
import pytest

from groundserve import Client, UnavailableError
from tests.support.reference import REPOSITORY
from tests.triton.protocol import Protocol, RejectedError, texts, upload
from tests.triton.serve import Server

RESTARTING = "a model of the server is being restarted; try again"
DOCUMENTED = (REPOSITORY / "docs" / "serve.md").read_text("utf-8")


@pytest.fixture
def server(harmed):
    """Without a supervisor: what is dead stays dead."""
    return harmed


def kill_stubs(server: Server, model: str) -> None:
    stubs = [psutil.Process(stub.pid) for stub in server.triton.stubs() if stub.model == model]
    assert stubs
    for stub in stubs:
        stub.kill()
    psutil.wait_procs(stubs, timeout=10)


def check_answers(server: Server, video) -> None:
    """Look at what a raw client of each protocol and `Client` get."""
    inputs = {"VIDEO": upload(video.read_bytes()), "QUERY": texts("When?")}
    addresses = {"grpc": server.triton.grpc_address, "http": server.triton.http_address}
    for name, address in addresses.items():
        protocol = Protocol(name, address)
        with pytest.raises(RejectedError) as rejection:
            protocol.infer("videoitg", inputs)
        assert rejection.value.code == "UNAVAILABLE"
        assert rejection.value.message.endswith(RESTARTING)
        protocol.client.close()
    with (
        Client(f"grpc://{server.triton.grpc_address}") as client,
        pytest.raises(UnavailableError) as unavailable,
    ):
        client.score(video, "When?")
    assert str(unavailable.value) == RESTARTING


@pytest.mark.parametrize("model", ["grounding", "video_decode"])
def test_dead_process_then_its_model_unloaded(server, clips, model):
    kill_stubs(server, model)
    check_answers(server, clips["vfr"])
    server.triton._api.unload_model(model)
    check_answers(server, clips["vfr"])
    server.triton.reload_model(model)
    server.ask(clips["vfr"], "When?")


@pytest.mark.parametrize("text", [RESTARTING, "Server is stopping"])
def test_documented(text):
    assert text in DOCUMENTED
