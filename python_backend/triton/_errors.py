"""groundserve's errors as Triton's codes, and back again on the way out of an inner model."""

from __future__ import annotations

import errno

from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    MediaError,
    RequestCancelledError,
    UnavailableError,
    UnsupportedError,
)
from groundserve.triton_messages import INTERNAL_MESSAGE, passing_failure

INTERNAL = "INTERNAL"

# The first class that fits decides.
_CODES: tuple[tuple[type[GroundserveError], str], ...] = (
    (UnsupportedError, "UNSUPPORTED"),
    (InvalidRequestError, "INVALID_ARG"),
    (UnavailableError, "UNAVAILABLE"),
    (DeadlineExceededError, "UNAVAILABLE"),
    (RequestCancelledError, "CANCELLED"),
)
_ERRORS: dict[str, type[GroundserveError]] = {
    "UNSUPPORTED": UnsupportedError,
    "INVALID_ARG": InvalidRequestError,
    "UNAVAILABLE": UnavailableError,
    "CANCELLED": RequestCancelledError,
}

_INTERNAL_CLASS = "InternalError"
ERROR_CLASSES = (
    *(
        kind.__name__
        for kind in (
            InvalidRequestError,
            MediaError,
            UnsupportedError,
            UnavailableError,
            DeadlineExceededError,
            RequestCancelledError,
        )
    ),
    _INTERNAL_CLASS,
)
"""What `error_class` returns."""


def typed(error: Exception) -> Exception:
    """Return what an error amounts to for a caller: to have run out of descriptors passes."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        unavailable = UnavailableError("the server has no file descriptor left; try again later")
        unavailable.__cause__ = error
        return unavailable
    return error


def error_class(error: Exception) -> str:
    """Return the name under which an operator finds an error; a failure of ours has one name."""
    name = type(error).__name__
    return name if name in ERROR_CLASSES else _INTERNAL_CLASS


def code_and_message(error: Exception) -> tuple[str, str]:
    """Return the name of a `TritonError` code, and the text that the caller may read."""
    if not isinstance(error, GroundserveError):  # Triton's own functions raise its texts as well
        error = passing_failure(str(error)) or error
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code, str(error)
    return INTERNAL, INTERNAL_MESSAGE


def to_coded_message(code: str, message: str) -> str:
    """Put the code into the message, for a BLS caller: the server loses it on that way."""
    return f"{code}: {message}"


def from_coded_message(model_name: str, text: str) -> GroundserveError:
    """Return the error an inner model rejected a BLS call with."""
    code, _, message = text.partition(": ")
    if code in _ERRORS:
        return _ERRORS[code](message)
    return passing_failure(text) or GroundserveError(f"the model {model_name} failed: {text}")
