"""What `Client` does before and around its calls; nothing answers in these tests."""

from __future__ import annotations

import math
import signal
import threading
import time
import uuid
from types import SimpleNamespace

import numpy as np
import pytest

from groundserve import (
    AsyncClient,
    Client,
    InvalidRequestError,
    MediaError,
    UnavailableError,
)

HEADERS = (
    "headers must be names of letters, digits, '-', '_' and '.' with values of printable ASCII, "
    "got the name "
)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (None, "None"),
        ("", "''"),
        ("localhost:8001", "'localhost:8001'"),
        ("ftp://h:1", "'ftp://h:1'"),
        ("grpc://h:0", "'grpc://h:0'"),
        ("grpc://h:1/", "'grpc://h:1/'"),
    ],
)
def test_another_form_of_url_is_refused(kind, url, shown):
    with pytest.raises(InvalidRequestError) as caught:
        kind(url)
    assert str(caught.value) == (
        f"url must be grpc://HOST:PORT (8001 is the usual port), got {shown}"
    )


@pytest.mark.parametrize("url", ["grpc://h:1", "grpc://my-host.local:65535", "grpcs://[::1]:8001"])
def test_url_is_taken(url):
    Client(url).close()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(
            ({"timeout_seconds": seconds}, f"timeout_seconds must be > 0 and finite, got {seconds}")
            for seconds in (0, math.nan)
        ),
        ({"timeout_seconds": "5"}, "timeout_seconds must be a number, got '5'"),
        ({"retries": -1}, "retries must be a whole number >= 0, got -1"),
        ({"retries": 1.5}, "retries must be a whole number >= 0, got 1.5"),
        *(
            ({"headers": {name: value}}, f"{HEADERS}{name!r}")
            for name, value in (("a", "b\nc"), ("a", "\u00e9"), ("a", 7), ("a b", "c"), ("", "c"))
        ),
        (
            {"root_certificates": __file__},
            "root_certificates goes with grpcs://, got 'grpc://127.0.0.1:8001'",
        ),
        (
            {"url": "grpcs://h:1", "root_certificates": "/nowhere.pem"},
            "root_certificates must be a file in PEM form, got '/nowhere.pem'",
        ),
    ],
)
def test_setting_that_is_none_is_refused(kind, settings, message):
    with pytest.raises(InvalidRequestError) as caught:
        kind(**settings)
    assert str(caught.value) == message


def test_any_finite_time_is_taken():
    """gRPC's and Triton's clocks overflow long before a float does."""
    for seconds in (np.float32(5), 1e300):
        with (
            Client("grpc://127.0.0.1:9", timeout_seconds=seconds) as client,
            pytest.raises(UnavailableError, match="failed to connect"),
        ):
            client.score(b"x", "x")


@pytest.mark.parametrize("request_id", ["", "a\nb", "x" * 65])
def test_a_request_id_that_a_log_could_not_show_is_refused(request_id):
    with (
        Client("grpc://127.0.0.1:9") as client,
        pytest.raises(InvalidRequestError, match="request_id must be 1 to 64 printable ASCII"),
    ):
        client.score(b"x", "x", request_id=request_id)


def test_on_text_that_would_be_waited_for_is_refused():
    async def on_text(number, text):
        pytest.fail("it is never called")

    with (
        Client("grpc://127.0.0.1:9") as client,
        pytest.raises(InvalidRequestError, match="on_text must be a function, and no async one"),
    ):
        client.ask(b"x", "x", on_text=on_text)


def test_an_error_knows_the_request():
    with Client("grpc://127.0.0.1:9", timeout_seconds=5) as client:
        with pytest.raises(UnavailableError) as caught:
            client.score(b"x", "x", request_id="mine")
        assert caught.value.request_id == "mine"
        with pytest.raises(UnavailableError) as caught:
            client.score(b"x", "x")
        assert str(uuid.UUID(caught.value.request_id)) == caught.value.request_id


def test_file_that_no_message_can_hold_is_not_read(tmp_path):
    path = tmp_path / "long.mp4"
    with path.open("wb") as file:
        file.truncate(2**31)  # a hole
    with (
        Client("grpc://127.0.0.1:9") as client,
        pytest.raises(MediaError, match=r"at most 2146435072 bytes to be sent, got 2147483648; ha"),
    ):
        client.score(path, "x")


@pytest.mark.parametrize("is_model_ready", [True, False])
@pytest.mark.parametrize("is_server_ready", [True, False])
def test_server_is_ready_where_front_and_all_others_are(
    monkeypatch, is_model_ready, is_server_ready
):
    with Client("grpc://127.0.0.1:9", timeout_seconds=5, headers={"Who": "me"}) as client:
        server = client._connection._server

        def ask_model(request, seconds, metadata):
            assert (request.name, metadata) == ("front", [("who", "me")])
            assert 0 < seconds <= 5
            return SimpleNamespace(ready=is_model_ready)

        monkeypatch.setattr(server, "ModelReady", ask_model)
        ready = SimpleNamespace(ready=is_server_ready)
        monkeypatch.setattr(server, "ServerReady", lambda *_: ready)
        assert client.is_ready() == (is_model_ready and is_server_ready)


def test_interrupt_neither_ends_the_beginning_of_a_call_nor_leaves_it_running(monkeypatch):
    """gRPC keeps a lock that an interrupt finds taken, and every later call would wait for it."""
    cancelled = threading.Event()

    def infer(*_, **__):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.05)  # where an interrupt of this thread would be raised
        return SimpleNamespace(cancel=cancelled.set, add_done_callback=lambda _: None)

    with Client("grpc://127.0.0.1:9") as client:
        monkeypatch.setattr(client._connection._server.ModelInfer, "future", infer)
        with pytest.raises(KeyboardInterrupt):
            client.score(b"x", "x")
        assert cancelled.wait(60)
