"""groundserve's errors as Triton's codes, and back again on the way out of an inner model.

Triton has no code for a deadline. UNAVAILABLE is what its own queues say of a request that waited
too long, and of the others CANCELLED, 400 over HTTP, would blame the caller
(triton-inference-server/python_backend f9088ff, src/pb_stub.cc, `TritonError`;
triton-inference-server/server e1db8a6, src/http_server.cc, `HttpCodeFromError`).
"""

from __future__ import annotations

import errno

from groundserve.errors import GroundserveError, UnavailableError
from groundserve.triton_messages import INTERNAL_MESSAGE, error_of_class, passing_failure

INTERNAL = "INTERNAL"

_CODES = {
    "InvalidRequestError": "INVALID_ARG",
    "MediaError": "INVALID_ARG",
    "UnsupportedError": "UNSUPPORTED",
    "UnavailableError": "UNAVAILABLE",
    "DeadlineExceededError": "UNAVAILABLE",
    "RequestCancelledError": "CANCELLED",
}
_INTERNAL_CLASS = "InternalError"
ERROR_CLASSES = (*_CODES, _INTERNAL_CLASS)
"""What `error_class` returns."""


def typed(error: Exception) -> Exception:
    """Return what an error amounts to for a caller: to have run out of descriptors passes."""
    # It says nothing of the request, and descriptors come back when others end.
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        unavailable = UnavailableError("the server has no file descriptor left; try again later")
        unavailable.__cause__ = error
        return unavailable
    return error


def error_class(error: Exception) -> str:
    """Return the name under which an operator finds an error; a failure of ours has one name."""
    name = type(_as_ours(error)).__name__
    return name if name in _CODES else _INTERNAL_CLASS


def code_and_message(error: Exception) -> tuple[str, str]:
    """Return the name of a `TritonError` code, and the text that the caller may read."""
    code = _CODES.get(error_class(error), INTERNAL)
    return code, INTERNAL_MESSAGE if code == INTERNAL else str(_as_ours(error))


def to_classed_message(error: Exception) -> str:
    """Put the class into the message, for a caller that asks for it; see `CLASS_IN_MESSAGE`."""
    return f"{error_class(error)}: {code_and_message(error)[1]}"


def from_classed_message(model_name: str, text: str) -> GroundserveError:
    """Return the error an inner model rejected a BLS call with."""
    # What `to_classed_message` made; a text of Triton's own has none of these names in front.
    return (
        error_of_class(text)
        or passing_failure(text)
        or GroundserveError(f"the model {model_name} failed: {text}")
    )


def _as_ours(error: Exception) -> Exception:
    """Return our error where one of Triton's own functions raised a text that we know."""
    if isinstance(error, GroundserveError):
        return error
    return passing_failure(str(error)) or error
