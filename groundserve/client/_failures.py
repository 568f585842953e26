"""What Triton and gRPC say of a call that failed, as our errors."""

from __future__ import annotations

import re

from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    RequestCancelledError,
    UnavailableError,
    UnsupportedError,
)
from groundserve.triton_messages import (
    INTERNAL_MESSAGE,
    error_of_class,
    passing_failure,
    ran_out_of_time,
)

_ERRORS: dict[str, type[GroundserveError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "UNIMPLEMENTED": UnsupportedError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
}
# What Triton says with these is for its log; see `triton_messages`.
_SERVER_FAILED = ("INTERNAL", "UNKNOWN")
BROKE = "the connection to {url} broke: the server may have ended; try again"
# gRPC's own texts with UNAVAILABLE (1.85), the first that fits; they name addresses of all kinds.
_CONNECTION_FAILURES = (
    (r"errors resolving|resolution failed", "failed to connect to {url}: no such host"),
    (
        r"Failed parsing HTTP/2|http1\.x server",
        "failed to connect to {url}: what answers there does not speak gRPC; give the server's "
        "gRPC port (8001 by default)",
    ),
    (
        r"VERIFY_FAILED|Hostname Verification|peer certificate|security handshaker",
        "failed to connect to {url}: its certificate is not one of those that root_certificates "
        "vouches for, or is another host's",
    ),
    (
        r"(?i)\b(tls|ssl) handshake failed",
        "failed to connect to {url}: what answers there does not speak TLS; give its port with "
        "TLS, or grpc://",
    ),
    (  # as Triton's HTTP port does
        r"failed to connect to all addresses.*Socket closed",
        "failed to connect to {url}: what listens there closed the connection; give the server's "
        "gRPC port (8001 by default)",
    ),
    (
        r"failed to connect to all addresses.*: (?P<reason>[^:]+)$",
        "failed to connect to {url}: {reason}; is the server running there?",
    ),
    (r"Socket closed|Connection reset|Broken pipe|Stream removed|GOAWAY", BROKE),
)


def typed_error(status: str, message: str | None, url: str) -> GroundserveError:
    """Map a call's status onto our errors; what Triton puts before a message is dropped.

    `url` is what the caller calls the server.
    """
    message = message or "the server gave no reason"
    message = re.sub(r"^in ensemble '.*?', ", "", message)
    message = re.sub(r"^\[request id: .*?\] ", "", message)  # the caller knows it
    if status == "CANCELLED":  # nobody but this client can have done it
        return RequestCancelledError("the request was cancelled: its client was closed")
    if ours := error_of_class(message):
        return ours
    if failure := passing_failure(message):
        return failure
    if status in _SERVER_FAILED:
        return GroundserveError(INTERNAL_MESSAGE)
    if status == "UNAVAILABLE":
        if ran_out_of_time(message):  # Triton has no code for it
            return DeadlineExceededError(message)
        return UnavailableError(_connection_failure(message, url) or message)
    if status == "DEADLINE_EXCEEDED":  # gRPC's text is "Deadline Exceeded"
        message = f"no answer from {url} within the timeout; allow more time or ask for less"
    return _ERRORS.get(status, GroundserveError)(message)


def _connection_failure(message: str, url: str) -> str | None:
    for pattern, text in _CONNECTION_FAILURES:
        if found := re.search(pattern, message, re.DOTALL):
            return text.format(url=url, **found.groupdict())
    return None
