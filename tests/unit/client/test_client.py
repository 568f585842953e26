"""What `Client` does before and around its calls; nothing answers in these tests."""

import math
import os
import signal
import threading
import time
import uuid

import numpy as np
import pytest

from groundserve import (
    AsyncClient,
    Client,
    InvalidRequestError,
    MediaError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve.arguments import check_queries
from groundserve.client._steps import STEPS


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (None, "None"),
        (5, "5"),
        (b"grpc://h:1", "a bytes"),
        ("", "''"),
        ("localhost:8001", "'localhost:8001'"),
        ("http://h:1", "'http://h:1'"),
        ("grpc://h", "'grpc://h'"),
        ("grpc://:1", "'grpc://:1'"),
        ("grpc://h:x", "'grpc://h:x'"),
        ("grpc://h:0", "'grpc://h:0'"),
        ("grpc://h:65536", "'grpc://h:65536'"),
        ("grpc://h:\u0661", "'grpc://h:\u0661'"),
        ("grpc://h:1/", "'grpc://h:1/'"),
        ("grpc://::1:1", "'grpc://::1:1'"),
    ],
)
def test_another_form_of_url_is_refused(kind, url, shown):
    with pytest.raises(InvalidRequestError) as caught:
        kind(url)
    assert str(caught.value) == (
        f"url must be grpc://HOST:PORT (8001 is the usual port), got {shown}"
    )


@pytest.mark.parametrize("url", ["grpc://h:1", "grpc://my-host.local:65535", "grpc://[::1]:8001"])
def test_url_is_taken(url):
    Client(url).close()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(
            ({"timeout_seconds": seconds}, f"timeout_seconds must be > 0 and finite, got {seconds}")
            for seconds in (0, -1, math.inf, math.nan)
        ),
        ({"timeout_seconds": None}, "timeout_seconds must be a number, got None"),
        ({"timeout_seconds": "5"}, "timeout_seconds must be a number, got '5'"),
        ({"timeout_seconds": True}, "timeout_seconds must be a number, got True"),
        ({"timeout_seconds": 10**400}, "timeout_seconds is too large for a float"),
        ({"retries": -1}, "retries must be a whole number >= 0, got -1"),
        ({"retries": 1.5}, "retries must be a whole number >= 0, got 1.5"),
        ({"retries": True}, "retries must be a whole number >= 0, got True"),
        ({"retries": None}, "retries must be a whole number >= 0, got None"),
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


def test_retries_reach_the_last_error():
    with (
        Client("grpc://127.0.0.1:9", retries=1) as client,
        pytest.raises(UnavailableError) as caught,
    ):
        client.score(b"x", "x", request_id="mine")
    assert str(caught.value) == (
        "failed to connect to grpc://127.0.0.1:9: Connection refused; is the server running there?"
        "; gave up after 2 tries"
    )
    assert caught.value.request_id == "mine"


def test_exactly_one_video_is_needed():
    with Client("grpc://127.0.0.1:9") as client:
        with pytest.raises(InvalidRequestError, match="exactly one of video and video_uri"):
            client.score(queries="x")
        with pytest.raises(InvalidRequestError, match="exactly one of video and video_uri"):
            client.score(b"x", "x", video_uri="file:///x")
        with pytest.raises(MediaError, match="cannot open the video '/none': No such file"):
            client.score("/none", "x")


@pytest.mark.parametrize("request_id", ["", "a\nb", "é", "x" * 65])
def test_a_request_id_that_a_log_could_not_show_is_refused(request_id):
    with (
        Client("grpc://127.0.0.1:9") as client,
        pytest.raises(InvalidRequestError, match="request_id must be 1 to 64 printable ASCII"),
    ):
        client.score(b"x", "x", request_id=request_id)


def test_an_error_knows_the_request():
    with Client("grpc://127.0.0.1:9", timeout_seconds=5) as client:
        with pytest.raises(UnavailableError) as caught:
            client.score(b"x", "x", request_id="mine")
        assert caught.value.request_id == "mine"
        with pytest.raises(UnavailableError) as caught:
            client.score(b"x", "x")
        assert str(uuid.UUID(caught.value.request_id)) == caught.value.request_id


def test_nobody_at_the_address_is_unavailable():
    with Client("grpc://127.0.0.1:9", timeout_seconds=5) as client:
        assert not client.is_ready()
        with pytest.raises(UnavailableError):
            client.score(b"x", "x")


def test_closed_client_asks_nobody():
    client = Client("grpc://127.0.0.1:9")
    client.close()
    client.close()
    assert not client.is_ready()
    with pytest.raises(RequestCancelledError, match="the client is closed"):
        client.score(b"x", "x")


def test_a_second_ctrl_c_does_not_end_closing_halfway(monkeypatch):
    client = Client()
    begun, ended = threading.Event(), threading.Event()
    real_close = client._connection._server.close

    def close():
        begun.set()
        for _ in range(100):  # bytecode, between which KeyboardInterrupt is raised
            time.sleep(0.005)
        real_close()
        ended.set()

    def interrupt():
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(client._connection._server, "close", close)
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        client.close()
    interrupter.join()
    assert ended.wait(timeout=10)


def test_forked_process_is_told_to_make_a_client_of_its_own(monkeypatch):
    """Not by a real fork: gRPC does not survive one beside other tests' channels."""
    with Client("grpc://127.0.0.1:9") as client:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            with pytest.raises(InvalidRequestError, match="in the process that made it"):
                client.score(b"x", "x")
            client.close()
        with pytest.raises(UnavailableError):  # still open
            client.score(b"x", "x")


def test_file_that_no_message_can_hold_is_not_read(tmp_path):
    path = tmp_path / "long.mp4"
    with path.open("wb") as file:
        file.truncate(2**31)  # a hole
    with (
        Client("grpc://127.0.0.1:9") as client,
        pytest.raises(MediaError, match=r"at most 2146435072 bytes to be sent, got 2147483648; ha"),
    ):
        client.score(path, "x")


def test_question_in_the_bytes_of_an_ascii_locale_is_read_as_utf_8():
    assert check_queries([b"O\xc3\xb9?".decode("ascii", "surrogateescape")]) == ["Où?"]


SCORE, ASK = STEPS["frames"], STEPS["text"]


@pytest.mark.parametrize(
    ("loaded", "asked", "is_ready"),
    [
        pytest.param(SCORE, SCORE, True, id="scores"),
        pytest.param(ASK, [*list(SCORE)[:3], *ASK], True, id="answers_in_text"),
        pytest.param([], ["admission"] * 2, False, id="neither"),
        pytest.param(["admission"], [*ASK][:2] * 2, False, id="first_step_alone"),
        pytest.param(list(SCORE)[:3], [*SCORE, *ASK], False, id="last_step_missing"),
    ],
)
def test_server_is_ready_where_every_model_of_a_head_is(monkeypatch, loaded, asked, is_ready):
    names = []

    def is_model_ready(name, client_timeout):
        assert 0 < client_timeout <= 5
        names.append(name)
        return name in loaded

    with Client("grpc://127.0.0.1:9", timeout_seconds=5) as client:
        monkeypatch.setattr(client._connection._server, "is_model_ready", is_model_ready)
        assert client.is_ready() == is_ready
    assert names == list(asked)
