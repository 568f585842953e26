"""What every request gets: an id, a line in the log, caps, typed errors without others' words."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import subprocess
import threading
from contextlib import suppress

import httpx2
import pytest

from groundserve import GroundserveError, InvalidRequestError, UnavailableError
from groundserve.gateway.server import GatewayServer
from groundserve.gateway.settings import GatewaySettings
from groundserve.serving.events import logger
from tests.unit.gateway.conftest import WAIT_SECONDS, wait_until


@pytest.fixture
def lines():
    """What is logged of requests."""
    found = []

    class Keep(logging.Handler):
        def emit(self, record):
            if record.getMessage() == "request":
                found.append(record.fields)

    handler = Keep()
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


def connect(client):
    return socket.create_connection((client.base_url.host, client.base_url.port), WAIT_SECONDS)


@pytest.mark.parametrize("logs_questions", [False, True])
def test_a_request_has_one_line_and_its_id(start, scripted, lines, logs_questions):
    client = start(scripted, logs_questions=logs_questions)
    video = client.post("/v1/videos", content=b"x").json()["id"]
    body = {"video_id": video, "queries": ["a secret question"]}
    answer = client.post("/v1/score", json=body, headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine-1"
    assert scripted.requests[0].request_id == "mine-1"
    (line,) = wait_until(lambda: [one for one in lines if one["request_id"] == "mine-1"])
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/score", 200)
    assert ("a secret question" in json.dumps(line)) == logs_questions
    other = client.get("/v1/models", headers={"x-request-id": "no good\x7f" + "x" * 99})
    assert other.headers["x-request-id"] not in ("", "mine-1")
    assert len(other.headers["x-request-id"]) == 36


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "one JSON object"),
        (b"[" * 100_000, "one JSON object"),
        (b'{"queries": ["a"], "queries": ["b"]}', "each key once"),
        (b'{"queries": ["a"], "top_k": NaN}', "finite"),
        (b'{"queries": ["a"]}', "exactly one of video_url, video_id"),
        (b'{"queries": ["a"], "video_id": "x", "video_url": "y"}', "exactly one of"),
        (b'{"queries": ["a"], "video_id": "x", "k": 1}', "k: Extra inputs are not permitted"),
        (b'{"queries": ["a"], "video_id": "x", "top_k": "3"}', "top_k: "),
        (b'{"queries": "a", "video_id": "x"}', "queries: "),
        (b'{"queries": ["\\ud800"], "video_id": "x"}', "body"),
        (b'{"queries": ["a"], "video_url": "http://127.0.0.1/a"}', "video_url: "),
        (b'{"queries": ["a"], "video_id": "x", "sample_fps": 1e999}', "sample_fps"),
    ],
)
def test_a_body_that_breaks_a_rule_is_refused(start, scripted, body, message):
    answer = start(scripted).post(
        "/v1/score", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == InvalidRequestError.__name__
    assert scripted.requests == []


def test_bodies_of_other_kinds_are_refused(start, scripted):
    client = start(scripted, max_body_bytes=1000)
    for encoding in ("gzip", "deflate", "br", "identity, gzip"):
        headers = {"content-encoding": encoding, "content-type": "application/json"}
        assert client.post("/v1/score", content=b"\x1f\x8b", headers=headers).status_code == 415
    headers = {"content-type": "text/plain"}
    assert client.post("/v1/score", content=b"{}", headers=headers).status_code == 415
    large = client.post("/v1/score", json={"queries": ["a" * 2000]})
    assert large.status_code == 413
    form = client.post("/v1/score", files={"video": b"x"}, data={"query": ["a" * 700] * 2})
    assert form.status_code == 413
    many = client.post("/v1/score", files={"video": b"x"}, data={"query": ["a"] * 99})
    assert many.status_code == 400


@pytest.mark.parametrize("min_body_rate", [16_384, 1e-6])
def test_a_body_that_comes_too_slowly_is_ended(start, min_body_rate):
    """It may not stand still either, however fast it came before."""
    client = start(body_seconds=0.2, min_body_rate=min_body_rate)
    with connect(client) as connection:
        head = b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head + b"some")
        answer = connection.makefile("rb").read()
    assert b" 408 " in answer.splitlines()[0]
    assert b"onnection: close" in answer
    spool = client.server.app.state.gateway.spool
    assert list(spool._arriving.iterdir()) == []


def sent(client, data):
    """What is answered to bytes, to the end of the connection."""
    with connect(client) as connection, suppress(ConnectionError):
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(2**16):
            answer += piece
    return answer


CHUNKED = (
    b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Transfer-Encoding: chunked\r\n"
)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"\0 / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 700_000 + b"\r\n\r\n",
        b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        + b"9" * 99
        + b"\r\n\r\n",
    ],
)
def test_a_head_that_is_none_is_told_so(start, head):
    assert sent(start(), head).startswith(b"HTTP/1.1 400 ")


def test_a_body_has_one_length(start):
    """A proxy in front may go by the other one, and take for body what is a request."""
    hidden = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    client = start()
    for head in (CHUNKED, CHUNKED.replace(b"POST", b"GET")):
        answer = sent(client, head + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_in_crumbs_is_broken_off(start):
    client = start()
    crumbs = b"1\r\nx\r\n"
    few = sent(client, CHUNKED + b"\r\n" + 900 * crumbs + b"0\r\n\r\n")
    assert few.startswith(b"HTTP/1.1 201 ")
    assert b'"num_bytes":900' in few
    with connect(client) as connection:
        connection.sendall(CHUNKED + b"\r\n" + 1500 * crumbs)
        with suppress(ConnectionResetError):
            answer = connection.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 400 ")
    spool = client.server.app.state.gateway.spool
    wait_until(lambda: not list(spool._arriving.iterdir()))
    many = sent(client, CHUNKED + b"\r\n" + 2000 * (b"100\r\n%b\r\n" % (256 * b"x")) + b"0\r\n\r\n")
    assert many.startswith(b"HTTP/1.1 201 ")


def test_connections_that_say_nothing_are_closed_and_others_answered(start):
    client = start(head_seconds=0.5, max_connections=8)
    idle = [connect(client) for _ in range(20)]
    half = connect(client)
    half.sendall(b"GET /heal")
    assert client.get("/healthz").status_code == 200
    for connection in [*idle, half]:
        connection.settimeout(WAIT_SECONDS)
        with suppress(ConnectionResetError):
            assert connection.recv(10) == b""
        connection.close()
    # A second request on a connection, too.
    with connect(client) as again:
        again.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert again.recv(2**16)
        again.sendall(b"GET /heal")
        with suppress(ConnectionResetError):
            while again.recv(2**16):
                pass


def test_connections_that_come_at_once_push_out_as_many(start):
    client = start(max_connections=8, head_seconds=3600)
    server = client.server
    together = threading.Event()
    server._loop.call_soon_threadsafe(together.wait)
    idle = [connect(client) for _ in range(100)]
    together.set()
    assert client.get("/healthz").status_code == 200
    wait_until(lambda: len(server._server.server_state.connections) <= 8)
    for connection in idle:
        connection.close()


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (UnavailableError("grpc://10.0.0.1:8001 at /srv/x"), 503, "UnavailableError"),
        (GroundserveError("grpc://10.0.0.1:8001 at /srv/x"), 503, "UnavailableError"),
        (RuntimeError("grpc://10.0.0.1:8001 at /srv/x"), 500, "GroundserveError"),
    ],
)
def test_no_error_holds_an_address_a_path_or_anothers_words(start, scripted, error, status, told):
    def fail(request):
        raise error

    scripted.script = fail
    client = start(scripted)
    video = client.post("/v1/videos", content=b"x").json()["id"]
    answer = client.post(
        "/v1/score", json={"video_id": video, "queries": ["a"], "timeout_seconds": 9}
    )
    assert answer.json()["error"]["type"] == told
    assert answer.status_code == status
    assert "10.0.0.1" not in answer.text
    assert "/srv" not in answer.text


def test_a_fault_of_ours_is_told_without_its_words(start, monkeypatch):
    client = start()
    monkeypatch.setattr(
        client.server.app.state.gateway.upstreams, "families", lambda: 1 / 0, raising=True
    )
    answer = client.get("/v1/models")
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "type": "GroundserveError",
        "message": "the server failed on this request; its log says why",
    }


def test_pages_of_chosen_origins_may_call(start):
    client = start(cors_origins=("https://a.example",))
    headers = {"origin": "https://a.example", "access-control-request-method": "POST"}
    allowed = client.options("/v1/score", headers=headers)
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    headers["origin"] = "https://b.example"
    refused = client.options("/v1/score", headers=headers)
    assert "access-control-allow-origin" not in refused.headers


def test_balancers_may_ask_for_the_head_alone(start, scripted):
    client = start(scripted)
    assert [client.head(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]


def test_metrics_and_the_page_of_the_interface(start, scripted):
    client = start(scripted)
    client.get("/v1/models")
    text = client.get("/metrics").text
    assert 'groundserve_gateway_requests_total{route="/v1/models",status="200"} 1.0' in text
    assert "groundserve_gateway_ready_upstreams 1.0" in text
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_a_port_that_cannot_be_had_is_named_by_its_option(start, tmp_path):
    taken = start().base_url.port
    for port, kind in ((taken, UnavailableError), (99999, InvalidRequestError)):
        settings = GatewaySettings(spool_dir=tmp_path / str(port), port=port)
        with pytest.raises(kind, match=r"port \(--port, or --gateway of serve\)"):
            GatewayServer(settings)


def test_tls_needs_a_certificate_and_its_key(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    files = {"tls_certificate": certificate, "tls_key": key}
    settings = {"spool_dir": tmp_path / "spool", "port": 0}
    with pytest.raises(InvalidRequestError, match="tls-key"):
        GatewaySettings(**settings, tls_certificate=certificate)
    certificate.write_text("none")
    key.write_text("none")
    refused = GatewaySettings(**settings | {"spool_dir": tmp_path / "other"}, **files)
    with pytest.raises(InvalidRequestError, match="tls-certificate"):
        GatewayServer(refused)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=h", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-out", certificate, "-keyout", key]
    subprocess.run(command, capture_output=True, check=True)
    server = GatewayServer(GatewaySettings(**settings, **files))
    trusted = ssl.create_default_context(cafile=certificate)
    with server.running(), httpx2.Client(base_url=server.url, verify=trusted) as client:
        assert client.get("/healthz").status_code == 200
