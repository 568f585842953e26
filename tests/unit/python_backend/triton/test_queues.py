from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from groundserve.errors import UnavailableError
from python_backend.triton import _queues
from python_backend.triton._queues import Door, count_waiting, open_door

# As 2.51 writes them.
METRICS = """\
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="videoitg",version="1"} 100
nv_inference_pending_request_count{model="vision_encoder",version="1"} 100
nv_inference_pending_request_count{model="video_features",version="1"} %d
nv_inference_pending_request_count{model="video_decode",version="1"} 100
nv_inference_pending_request_count{model="grounding",version="1"} %d
"""


class Metrics(ThreadingHTTPServer):
    daemon_threads = True
    waiting = (0, 0)
    connections = 0
    looks = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Metrics

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_GET(self):
        self.server.looks += 1
        body = (METRICS % self.server.waiting).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    with Metrics(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_waiting_requests_of_both_queues_are_added_up():
    assert count_waiting(METRICS % (3, 4)) == 7
    assert count_waiting(METRICS.replace("grounding", "generation") % (3, 4)) == 7
    assert count_waiting("") == 0


def test_door_is_open_while_fewer_wait_than_may(metrics):
    address = f"127.0.0.1:{metrics.server_port}"
    with closing(Door(max_waiting=5, metrics_address=address)) as door:
        metrics.waiting = (1, 3)
        door.check()
        metrics.waiting = (2, 3)
        with pytest.raises(
            UnavailableError, match="5 requests wait already, this server lets 5 wait"
        ):
            door.check()
        metrics.waiting = (0, 0)
        door.check()
    assert metrics.connections == 1


def let_in(door, num_requests):
    """Return how many of these are let in."""
    num_refused = 0
    for _ in range(num_requests):
        try:
            door.check()
        except UnavailableError:
            num_refused += 1
    return num_requests - num_refused


def test_door_looks_again_when_as_many_were_let_in_as_may_wait(metrics, monkeypatch):
    monkeypatch.setattr(_queues, "_LOOK_SECONDS", 60.0)
    address = f"127.0.0.1:{metrics.server_port}"
    with closing(Door(max_waiting=5, metrics_address=address)) as door:
        metrics.waiting = (1, 1)
        assert let_in(door, 3) == 3
        assert metrics.looks == 1
        metrics.waiting = (1, 3)  # two of them are answered
        assert let_in(door, 1) == 1
        assert metrics.looks == 2
        metrics.waiting = (2, 3)
        assert let_in(door, 9) == 0
        assert metrics.looks == 11  # who is refused is refused for what is seen now
        metrics.waiting = (0, 0)
        assert let_in(door, 5) == 5
        assert metrics.looks == 12


def test_door_is_open_where_the_metrics_do_not_answer():
    with closing(Door(max_waiting=1, metrics_address="127.0.0.1:9")) as door:
        door.check()


def test_door_of_a_server_is_where_the_environment_says(metrics):
    metrics.waiting = (9, 9)
    address = f"127.0.0.1:{metrics.server_port}"
    door = open_door(18, {"GROUNDSERVE_METRICS_ADDRESS": address})
    assert door is not None
    with closing(door), pytest.raises(UnavailableError):
        door.check()
    assert open_door(18, {}) is None
