"""What Triton and gRPC say, and what a caller of ours is told."""

import pytest

from groundserve import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    UnavailableError,
)
from groundserve.client._failures import typed_error
from groundserve.triton_messages import CLASSES

URL = "grpc://host:8001"
PASSED = "the request did not finish within 1 s; allow more time or sample fewer frames"


@pytest.mark.parametrize(
    ("status", "message", "kind", "text"),
    [
        (
            "INVALID_ARGUMENT",
            "in ensemble 'videoitg', top_k is 0, really",
            InvalidRequestError,
            "top_k is 0, really",
        ),
        ("UNAVAILABLE", PASSED, DeadlineExceededError, PASSED),
        (
            "NOT_FOUND",
            "Request for unknown model: 'videoitg' has no available versions",
            UnavailableError,
            "a model of the server is being restarted; try again",
        ),
        (
            "INTERNAL",
            "Stub process 'grounding_0_0' is not healthy.",
            UnavailableError,
            "a model of the server is being restarted; try again",
        ),
        (
            "INTERNAL",
            "cannot open /srv/x.py",
            GroundserveError,
            "the server failed on this request; its log says why",
        ),
        ("", None, GroundserveError, "the server gave no reason"),
    ],
)
def test_a_status_becomes_the_error_that_says_what_to_do(status, message, kind, text):
    error = typed_error(status, message, URL)
    assert type(error) is kind
    assert str(error) == text


@pytest.mark.parametrize("kind", CLASSES.values())
def test_class_before_the_message_decides(kind):
    message = f"{kind.__name__}: a video: allow more time"
    error = typed_error("INVALID_ARGUMENT", message, URL)
    assert type(error) is kind
    assert str(error) == "a video: allow more time"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param(
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:9: Failed to "
            "connect to remote host: Connection refused",
            "failed to connect to grpc://host:8001: Connection refused; is the server running "
            "there?",
            id="refused",
        ),
        pytest.param(
            "errors resolving host:8001: [field:hostname lookup error:address lookup failed for "
            "host:8001: Domain name not found]",
            "failed to connect to grpc://host:8001: no such host",
            id="no_host",
        ),
        pytest.param(
            "failed to connect to all addresses; last error: INTERNAL: ipv4:10.0.0.1:8000: Failed "
            "parsing HTTP/2 (Expected SETTINGS frame as the first frame, got frame type 80) "
            "(Trying to connect an http1.x server (HTTP status 400))",
            "failed to connect to grpc://host:8001: what answers there does not speak gRPC; give "
            "the server's gRPC port (8001 by default)",
            id="http_1",
        ),
        pytest.param(
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:10.0.0.1:8000: "
            "Socket closed",
            "failed to connect to grpc://host:8001: what listens there closed the connection; give "
            "the server's gRPC port (8001 by default)",
            id="http_port_of_triton",
        ),
        *(
            pytest.param(
                message,
                "the connection to grpc://host:8001 broke: the server may have ended; try again",
                id=name,
            )
            for name, message in {
                "ended": "Stream removed (Socket closed)",
                "killed": "Stream removed (recvmsg:Connection reset by peer (104))",
                "in_bare_words": "Socket closed",
            }.items()
        ),
    ],
)
def test_failure_of_the_connection_names_the_server_alone(message, text):
    error = typed_error("UNAVAILABLE", message, URL)
    assert type(error) is UnavailableError
    assert str(error) == text


def test_time_that_is_up_says_so():
    error = typed_error("DEADLINE_EXCEEDED", "Deadline Exceeded", URL)
    assert type(error) is DeadlineExceededError
    assert str(error) == (
        "no answer from grpc://host:8001 within the timeout; allow more time or ask for less"
    )
