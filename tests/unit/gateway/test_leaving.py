"""A caller who leaves ends the work, at each stage of it."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from tests.unit.gateway.conftest import WAIT_SECONDS, wait_until

HEAD = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"


def connect(client):
    host, port = client.base_url.host, client.base_url.port
    return socket.create_connection((host, port), WAIT_SECONDS)


def idle(client):
    """Wait until nothing is left of a request."""
    desk = client.server.app.state.gateway
    wait_until(lambda: not any(one.num_running for one in desk.upstreams.all))
    wait_until(lambda: desk.upstreams.num_waiting == 0)
    wait_until(lambda: desk.access.owner(None).num_at_work == 0)
    wait_until(lambda: not list(desk.spool.videos_dir.iterdir()))


def send(client, path, **more):
    body = json.dumps({"queries": ["one two three"], **more}).encode()
    connection = connect(client)
    connection.sendall(HEAD % (path.encode(), b"application/json", len(body)) + body)
    return connection


@pytest.mark.parametrize("is_streamed", [False, True])
def test_while_the_server_works(start, scripted, is_streamed):
    held = threading.Event()
    scripted.script = lambda request: wait_until(
        lambda: held.is_set() or not request.context.is_active()
    )
    client = start(scripted, max_running=1)
    video = client.post("/v1/videos", content=b"x").json()["id"]
    more = {"stream": True} if is_streamed else {}
    connection = send(client, "/v1/ask", video_id=video, **more)
    assert scripted.has_asked.wait(WAIT_SECONDS)
    upstreams = client.server.app.state.gateway.upstreams
    waiting = send(client, "/v1/ask", video_id=video, **more)
    wait_until(lambda: upstreams.num_waiting == 1)
    waiting.close()
    wait_until(lambda: upstreams.num_waiting == 0)
    assert len(scripted.requests) == 1
    connection.close()
    wait_until(lambda: not scripted.requests[0].context.is_active())
    client.delete(f"/v1/videos/{video}")
    idle(client)


def test_after_the_first_word(start, scripted):
    first, held = [True], threading.Event()

    def script(request):
        if not first:
            wait_until(lambda: held.is_set() or not request.context.is_active())
        first.clear()

    scripted.script = script
    client = start(scripted)
    video = client.post("/v1/videos", content=b"x").json()["id"]
    body = {"video_id": video, "queries": ["one two"], "stream": True}
    with client.stream("POST", "/v1/ask", json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: text"
        assert json.loads(next(lines).removeprefix("data: ")) == {"query": 0, "text": "one "}
    wait_until(lambda: not scripted.requests[0].context.is_active())


@pytest.mark.parametrize("path", [b"/v1/videos", b"/v1/score"])
def test_in_the_middle_of_the_body(start, scripted, path):
    client = start(scripted)
    connection = connect(client)
    kind = b"video/mp4" if path == b"/v1/videos" else b"multipart/form-data; boundary=b"
    part = b'--b\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\nabc'
    connection.sendall(HEAD % (path, kind, 10_000) + part)
    arriving = client.server.app.state.gateway.spool._arriving
    wait_until(lambda: list(arriving.iterdir()))
    connection.close()
    wait_until(lambda: not list(arriving.iterdir()))
    idle(client)
    assert scripted.requests == []
