"""The parameters of a request: set by callers, and by our own BLS calls."""

from __future__ import annotations

import json
from typing import Any

from groundserve.errors import InvalidRequestError


def read_parameters(request: Any) -> dict[str, Any]:
    """Return the request's parameters by name.

    Raises:
        InvalidRequestError: A name or a value is not UTF-8; Triton takes any bytes over HTTP.
    """
    try:
        # The backend hands parameters over as JSON, "" where there are none.
        text = request.parameters()
        parameters: dict[str, Any] = json.loads(text) if text else {}
    except UnicodeDecodeError:
        raise InvalidRequestError("the request's parameters must be UTF-8") from None
    return parameters


def read_request_id(request: Any) -> str:
    """Return the caller's id, with a replacement character for what is not UTF-8 in it."""
    try:
        request_id: str = request.request_id()
    except UnicodeDecodeError as error:
        # The exception holds the bytes that could not be read.
        return error.object.decode("utf-8", "replace")
    return request_id
