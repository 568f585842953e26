"""Every error that leaves the gateway: a status, a type and a message.

Messages are ours: no path, no address and nothing that a server, a resolver or a library said.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    MediaError,
    RequestCancelledError,
    UnavailableError,
    UnsupportedError,
)
from groundserve.triton_messages import INTERNAL_MESSAGE, is_decoder_death

RETRY_SECONDS = 2
"""What Retry-After says where nobody knows better."""

_CALLER_LEFT = 499
_STATUSES: tuple[tuple[type[GroundserveError], int], ...] = (
    (MediaError, 422),
    (UnsupportedError, 422),
    (InvalidRequestError, 400),
    (UnavailableError, 503),
    (DeadlineExceededError, 504),
    (RequestCancelledError, _CALLER_LEFT),
)
"""The first that fits."""
_UNAVAILABLE = "the service cannot answer now; try again later"
_TOO_LATE = "no answer within the time; allow more or ask for less"


class RefusedError(GroundserveError):
    """What HTTP has a status for and groundserve no class."""

    def __init__(
        self, status: int, kind: str, message: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        """What the body calls the error's type."""
        self.retry_after = retry_after
        """Seconds."""


def not_found(what: str) -> RefusedError:
    """Return the error for an id that is nobody's, or another's."""
    return RefusedError(404, "NotFoundError", f"there is no such {what}")


def too_large(what: str, most: int) -> RefusedError:
    """Return the error for a body above its cap."""
    return RefusedError(413, "TooLargeError", f"{what} must be at most {most} bytes")


def busy(message: str) -> RefusedError:
    """Return the error for what the gateway itself has no room for."""
    return RefusedError(503, "UnavailableError", message, retry_after=RETRY_SECONDS)


def over_quota(message: str, *, retry_after: float = RETRY_SECONDS) -> RefusedError:
    """Return the error for what goes beyond a key's share."""
    return RefusedError(429, "RateLimitError", message, retry_after=retry_after)


def public_error(error: Exception) -> GroundserveError:
    """Return what callers may be told of an error."""
    match error:
        case InvalidRequestError() if str(error).startswith("QUERY"):  # its name in Triton
            return type(error)(str(error).replace("QUERY", "queries", 1))
        case RefusedError() | InvalidRequestError():
            return error
        case UnavailableError() if is_decoder_death(error):
            return error
        case UnavailableError():
            return UnavailableError(_UNAVAILABLE)
        case sqlite3.Error():  # the disk is full, or the like
            return UnavailableError(_UNAVAILABLE)
        case DeadlineExceededError():
            return DeadlineExceededError(_TOO_LATE)
        case RequestCancelledError():
            return RequestCancelledError("the request was cancelled")
        case ValidationError() | RequestValidationError():
            first = error.errors()[0]
            # Without the value, which may be anything.
            place = ".".join(str(part) for part in first["loc"])[:100]
            return InvalidRequestError(f"{place or 'the body'}: {first['msg']}")
        case HTTPException():
            kind = "NotFoundError" if error.status_code == 404 else "InvalidRequestError"
            return RefusedError(error.status_code, kind, str(error.detail).lower())
        case _:
            return GroundserveError(INTERNAL_MESSAGE)


def error_status(error: GroundserveError) -> int:
    """Return the HTTP status of what `public_error` returned."""
    if isinstance(error, RefusedError):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def error_body(error: GroundserveError) -> dict[str, Any]:
    """Return the JSON of what `public_error` returned."""
    kind = error.kind if isinstance(error, RefusedError) else type(error).__name__
    return {"error": {"type": kind, "message": str(error)}}


def error_response(error: Exception) -> Response:
    """Answer with an error of any kind."""
    told = public_error(error)
    status = error_status(told)
    headers = dict(getattr(error, "headers", None) or {})  # of HTTPException, such as Allow
    retry_after = getattr(told, "retry_after", None) or (RETRY_SECONDS if status == 503 else None)
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, round(retry_after)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(told), status, headers)


class _Told(BaseModel):
    type: str
    message: str


class _Error(BaseModel):
    error: _Told


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"model": _Error, "description": "An error: its type and a message."}
}
"""For the OpenAPI of every route."""
