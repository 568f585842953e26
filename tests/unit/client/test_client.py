"""What `Client` does before and around its calls; nothing answers in these tests."""

import math
import uuid

import numpy as np
import pytest

from groundserve import (
    AsyncClient,
    Client,
    InvalidRequestError,
    MediaError,
    UnavailableError,
)
from groundserve.client._steps import STEPS


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (None, "None"),
        ("", "''"),
        ("localhost:8001", "'localhost:8001'"),
        ("http://h:1", "'http://h:1'"),
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


@pytest.mark.parametrize("url", ["grpc://h:1", "grpc://my-host.local:65535", "grpc://[::1]:8001"])
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


SCORE, ASK = STEPS["frames"], STEPS["text"]


@pytest.mark.parametrize(
    ("loaded", "asked", "is_ready"),
    [
        pytest.param(SCORE, SCORE, True, id="scores"),
        pytest.param(ASK, [*list(SCORE)[:3], *ASK], True, id="answers_in_text"),
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
