"""The keeper's endpoint against a server of this test's own in the place of tritonserver's."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from contextlib import AbstractContextManager, ExitStack, closing, suppress

import pytest

from groundserve.serving import operations as module
from groundserve.serving.operations import serve_operations
from groundserve.serving.status import StatusBoard

TRITON = """# HELP nv_inference_request_failure Number of failed requests
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="video_features",reason="REJECTED",version="1"} 12
nv_inference_request_failure{model="grounding",version="1",reason="REJECTED"} 3
nv_inference_request_failure{model="grounding",reason="OTHER",version="1"} 7
# HELP groundserve_errors_total Requests answered with an error
# TYPE groundserve_errors_total counter
groundserve_errors_total{class="MediaError"} 4
"""


class Keeper:
    """What the endpoint asks."""

    def __init__(self) -> None:
        self.board = StatusBoard()
        self.triton = "127.0.0.1:1"

    def serve(self) -> AbstractContextManager[str]:
        return serve_operations(
            "127.0.0.1", 0, board=self.board, metrics_address=lambda: self.triton
        )


class Triton:
    """Answers one request with what it is told; a piece at a time if told so."""

    def __init__(self, *pieces: str, pause: float = 0.0, status: str = "200 OK") -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.pieces = [f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n", *pieces]
        self.pause = pause
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        with closing(self.listener), self.listener.accept()[0] as connection:
            connection.recv(65536)
            for piece in self.pieces:
                try:
                    connection.sendall(piece.encode())
                except OSError:
                    return
                time.sleep(self.pause)


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def address(keeper):
    with keeper.serve() as found:
        yield found


def ask(address: str, path: str, method: str = "GET") -> tuple[int, str]:
    with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_ready_and_live(address, keeper):
    assert ask(address, "/health/live") == (200, '{"live": true}\n')
    assert ask(address, "/health/ready") == (200, '{"ready": true, "problems": []}\n')
    keeper.board.report("model grounding", "model grounding lost a process")
    status, text = ask(address, "/health/ready?verbose")
    assert status == 503
    assert json.loads(text) == {"ready": False, "problems": ["model grounding lost a process"]}
    assert ask(address, "/health/live")[0] == 200
    assert ask(address, "/health/live", "HEAD") == (200, "")
    assert ask(address, "/nothing")[0] == 404
    assert ask(address, "/metrics", "POST")[0] == 405


def families(text: str) -> Counter[str]:
    return Counter(line.split()[2] for line in text.splitlines() if line.startswith("# TYPE"))


def test_metrics_are_those_of_the_server_and_then_ours(address, keeper):
    keeper.triton = Triton(TRITON).address
    keeper.board.count("server_restarts")
    status, text = ask(address, "/metrics")
    assert status == 200
    assert text.startswith(TRITON)
    assert "\ngroundserve_server_restarts_total 1\n" in text
    assert "\ngroundserve_stubs_died_total 0\n" in text
    assert "\ngroundserve_up 1\n" in text
    names = families(text)
    assert max(names.values()) == 1
    helped = Counter(line.split()[2] for line in text.splitlines() if line.startswith("# HELP"))
    assert helped == names
    samples = {line.split("{")[0].split()[0] for line in text.splitlines() if line[0] != "#"}
    assert samples <= set(names)


def test_metrics_of_a_server_that_is_gone_or_fails_are_ours_alone(address, keeper):
    for triton in ("127.0.0.1:1", Triton("broken", status="500 Oops").address):
        keeper.triton = triton
        status, text = ask(address, "/metrics")
        assert status == 200
        assert "groundserve_up 0\n" in text
        assert "nv_" not in text
        assert "broken" not in text


@pytest.mark.parametrize("pieces", [(), ("nv_a 1\n",) * 100], ids=["silent", "trickling"])
def test_server_that_hangs_does_not_hold_metrics_up(address, keeper, monkeypatch, pieces):
    monkeypatch.setattr(module, "_METRICS_SECONDS", 0.3)
    pause = 0.1 if pieces else 5.0
    keeper.triton = Triton(*pieces, pause=pause).address
    started = time.monotonic()
    text = ask(address, "/metrics")[1]
    assert time.monotonic() - started < 5.0  # 10 s of trickle, 5 s of silence
    assert "groundserve_up 0\n" in text
    assert ask(address, "/health/ready")[0] == 200


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_connections_that_ask_for_half_a_page_keep_nobody_else_waiting(keeper, monkeypatch):
    """Fewer than are let in, then more: the oldest of those is closed for each new one."""
    monkeypatch.setattr(module, "_MAX_CONNECTIONS", 50)
    with keeper.serve() as address, ExitStack() as stack:
        idle = []
        for _ in range(2 * 40):
            idle.append(stack.enter_context(connect(address)))
            idle[-1].sendall(b"GET /h")
            if len(idle) % 40 == 0:
                started = time.monotonic()
                assert ask(address, "/health/live")[0] == 200
                assert time.monotonic() - started < module._REQUEST_SECONDS
        with suppress(ConnectionResetError):
            assert idle[0].recv(1) == b""


def test_who_says_a_little_ever_again_is_given_up(monkeypatch, keeper):
    monkeypatch.setattr(module, "_REQUEST_SECONDS", 0.3)
    with keeper.serve() as address, connect(address) as slow:
        slow.sendall(b"GET /health/live HTTP/1.1\r\n")
        deadline = time.monotonic() + 10
        with pytest.raises(ConnectionError):  # noqa: PT012 - until it is given up
            while time.monotonic() < deadline:
                slow.sendall(b"X: y\r\n")
                time.sleep(0.05)
