import math
import os
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from engine_build.triton.__main__ import LAYOUTS, REFERENCE_MODEL
from engine_build.triton.specs import model_specs
from groundserve import (
    Client,
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve import client as client_module
from groundserve.client import _STEPS, MODEL_NAME, _typed_error
from groundserve.triton_messages import OTHER_ENGINES, SEATS_TAKEN

PASSED = "the request did not finish within 1 s; allow more time or sample fewer frames"


class TritonError(Exception):
    """Looks like tritonclient's InferenceServerException."""

    def __init__(self, status, message):
        super().__init__(message)
        self._status, self._message = status, message

    def status(self):
        return self._status

    def message(self):
        return self._message


@pytest.mark.parametrize(
    ("status", "message", "kind", "text"),
    [
        ("StatusCode.INVALID_ARGUMENT", "top_k is 0", InvalidRequestError, "top_k is 0"),
        (
            "StatusCode.INVALID_ARGUMENT",
            "in ensemble 'videoitg', top_k is 0, really",
            InvalidRequestError,
            "top_k is 0, really",
        ),
        ("StatusCode.UNAVAILABLE", "queue full", UnavailableError, "queue full"),
        (
            "StatusCode.UNAVAILABLE",
            "in ensemble 'videoitg', [request id: a-1] Exceeds maximum queue size",
            UnavailableError,
            "the server has too many requests; try again",
        ),
        (
            "StatusCode.UNAVAILABLE",
            "in ensemble 'videoitg', [request id: a-1] Request timeout expired",
            DeadlineExceededError,
            "the request waited too long for its turn; allow more time or try again later",
        ),
        ("StatusCode.UNAVAILABLE", PASSED, DeadlineExceededError, PASSED),
        (
            "StatusCode.NOT_FOUND",
            "Request for unknown model: 'videoitg' has no available versions",
            UnavailableError,
            "a model of the server is being restarted; try again",
        ),
        (
            "StatusCode.INTERNAL",
            "Stub process 'grounding_0_0' is not healthy.",
            UnavailableError,
            "a model of the server is being restarted; try again",
        ),
        (
            "StatusCode.CANCELLED",
            "Stream removed (Channel closed!)",
            RequestCancelledError,
            "the request was cancelled: its client was closed",
        ),
        (
            "StatusCode.INTERNAL",
            "cannot open /srv/x.py",
            GroundserveError,
            "the server failed on this request; its log says why",
        ),
        (None, None, GroundserveError, "the server gave no reason"),
    ],
)
def test_a_status_becomes_the_error_that_says_what_to_do(status, message, kind, text):
    error = _typed_error(TritonError(status, message))
    assert type(error) is kind
    assert str(error) == text


def test_the_steps_are_those_of_the_ensemble():
    ensemble = model_specs(LAYOUTS["cpu"], REFERENCE_MODEL)[0]
    assert ensemble.name == MODEL_NAME
    assert list(_STEPS.items()) == [
        (step.name, (tuple(t.name for t in step.inputs), tuple(t.name for t in step.outputs)))
        for step in ensemble.steps
    ]


@pytest.mark.parametrize("url", ["localhost:8001", "http://h:1", "grpc://h", "grpc://h:x"])
def test_another_form_of_url_is_refused(url):
    with pytest.raises(InvalidRequestError, match="url must be grpc://HOST:PORT"):
        Client(url)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_a_timeout_that_is_no_time_is_refused(seconds):
    with pytest.raises(InvalidRequestError, match="timeout_seconds must be > 0 and finite, got"):
        Client(timeout_seconds=seconds)


def test_exactly_one_video_is_needed():
    with Client("grpc://127.0.0.1:9") as client:
        with pytest.raises(InvalidRequestError, match="exactly one of video and video_uri"):
            client.score(queries="x")
        with pytest.raises(InvalidRequestError, match="exactly one of video and video_uri"):
            client.score(b"x", "x", video_uri="file:///x")
        with pytest.raises(InvalidRequestError, match="cannot read /none: No such file"):
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
    real_close = client._server.close

    def close():
        begun.set()
        for _ in range(100):  # bytecode, between which KeyboardInterrupt is raised
            time.sleep(0.005)
        real_close()
        ended.set()

    def interrupt():
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(client._server, "close", close)
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        client.close()
    interrupter.join()
    assert ended.wait(timeout=10)


def test_no_two_threads_begin_a_call_at_one_time(monkeypatch):
    """tritonclient's `async_infer` keeps the call in an attribute before it takes the callback."""
    beginning = threading.Lock()

    def async_infer(model_name, inputs, callback, **named):
        assert beginning.acquire(blocking=False)
        time.sleep(0.01)
        beginning.release()
        callback(None, TritonError("StatusCode.INVALID_ARGUMENT", "asked"))
        return SimpleNamespace(cancel=lambda: None)

    with Client("grpc://127.0.0.1:9") as client, ThreadPoolExecutor(4) as pool:
        monkeypatch.setattr(client._server, "async_infer", async_infer)
        monkeypatch.setattr(Client, "_exception", TritonError)
        for call in [pool.submit(client.score, b"x", "x") for _ in range(8)]:
            with pytest.raises(GroundserveError, match="asked"):
                call.result()


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


def test_interrupt_neither_ends_the_beginning_of_a_call_nor_leaves_it_running(monkeypatch):
    """gRPC keeps a lock that an interrupt finds taken, and every later call would wait for it."""
    begun, cancelled = threading.Event(), threading.Event()

    def async_infer(model_name, inputs, callback, **named):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.05)  # where an interrupt of this thread would be raised
        begun.set()
        return SimpleNamespace(cancel=cancelled.set)

    with Client("grpc://127.0.0.1:9") as client:
        monkeypatch.setattr(client._server, "async_infer", async_infer)
        with pytest.raises(KeyboardInterrupt):
            client.score(b"x", "x")
        assert cancelled.wait(10)
        assert begun.is_set()


@pytest.mark.parametrize(("num_takeovers", "is_answered"), [(1, True), (2, False)])
def test_steps_begin_again_when_another_server_took_over(monkeypatch, num_takeovers, is_answered):
    calls = []

    def infer(self, model_name, inputs, outputs, deadline, request_id):
        calls.append(model_name)
        if model_name == "grounding" and calls.count("grounding") <= num_takeovers:
            raise UnavailableError(f"in other words: {OTHER_ENGINES}")
        return {}

    monkeypatch.setattr(Client, "_infer", infer)
    again = ["admission", "video_features", "grounding"] * num_takeovers
    with Client() as client:
        if is_answered:
            assert client._infer_steps({}, "id") == {}
            steps = ["admission", "video_features", "grounding", "frame_selector"]
            assert calls == [*again, *steps]
        else:
            with pytest.raises(UnavailableError, match="took over"):
                client._infer_steps({}, "id")
            assert calls == again


@pytest.mark.parametrize(("timeout_seconds", "is_answered"), [(600.0, True), (0.3, False)])
def test_costly_video_is_asked_again_until_the_time_is_over(
    monkeypatch, timeout_seconds, is_answered
):
    waits: list[float] = []
    calls: list[str] = []

    def infer(self, model_name, inputs, outputs, deadline, request_id):
        calls.append(model_name)
        if model_name == "video_features" and len(waits) < 6:
            raise UnavailableError(f"{SEATS_TAKEN}: it takes 7 gigapixels")
        return {}

    monkeypatch.setattr(Client, "_infer", infer)
    monkeypatch.setattr(client_module.time, "sleep", waits.append)
    with Client(timeout_seconds=timeout_seconds) as client:
        if is_answered:
            client._infer_steps({}, "id")
            assert calls.count("video_features") == 7
            limits = [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
            assert all(m / 2 <= wait <= m for wait, m in zip(waits, limits, strict=True))
        else:
            with pytest.raises(UnavailableError, match="7 gigapixels"):
                client._infer_steps({}, "id")
            assert (calls, waits) == (["admission", "video_features"], [])
