"""What a request holds: its texts are measured before anything is made of them.

The Python backend itself makes an object of each element of a BYTES tensor before `execute` is
called, so `as_numpy` costs nothing more, and nothing here can be sooner.

Source: triton-inference-server/python_backend 01d0ad8 (r24.10) and f9088ff, src/pb_tensor.cc (the
constructors of `PbTensor`): the older one does so in Python, the newer one in C++.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.limits import Limits
from python_backend.ground import check_number, check_sizes

Tensors = dict[str, Any]
"""Tensors of one request or answer, by name: numpy, or torch where they lie on a GPU."""


def read_queries(tensors: Tensors, limits: Limits) -> list[str]:
    """Return the questions of the BYTES tensor QUERY (Q,)."""
    # Absent and empty are refused alike, in the words of `check_number`.
    elements = tensors.get("QUERY", ())
    check_number(len(elements), limits)
    check_sizes([len(element) for element in elements], limits)
    return [_decode(f"QUERY[{i}]", element) for i, element in enumerate(elements)]


def read_optional_text(tensors: Tensors, name: str, *, max_bytes: int) -> str | None:
    """Return the one element of a BYTES tensor (1,), None where the request leaves it out."""
    if name not in tensors:
        return None
    elements = tensors[name]
    if len(elements) != 1:
        raise InvalidRequestError(f"{name} must hold 1 element, got {len(elements)}")
    if len(elements[0]) > max_bytes:
        raise InvalidRequestError(
            f"{name} must be at most {max_bytes} bytes, got {len(elements[0])}"
        )
    return _decode(f"{name}[0]", elements[0])


def read_options_text(tensors: Tensors, limits: Limits) -> str:
    """Return OPTIONS, "" where the request leaves it out."""
    return read_optional_text(tensors, "OPTIONS", max_bytes=limits.max_options_bytes) or ""


def read_parameters(request: Any) -> dict[str, Any]:
    """Return the request's parameters by name."""
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


def text_tensor(*texts: str) -> NDArray[np.object_]:
    """Return BYTES (n,)."""
    return np.array([text.encode("utf-8") for text in texts], np.object_)


def json_tensor(value: object) -> NDArray[np.object_]:
    """Return BYTES (1,)."""
    return text_tensor(json.dumps(value))


def joined(arrays: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return arrays one after another, and their offsets, int64 (n + 1,)."""
    return np.concatenate(arrays), offsets(arrays)


def offsets(parts: Sequence[Sequence[Any] | NDArray[Any]]) -> NDArray[np.int64]:
    """Return where each part begins, and where the last ends: int64 (n + 1,)."""
    return np.cumsum([0, *map(len, parts)], dtype=np.int64)


def divided(array: NDArray[Any], ends: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Return the parts that `joined` has joined."""
    return np.split(array, ends[1:-1])


def _decode(name: str, element: bytes) -> str:
    try:
        return element.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{name} must be UTF-8") from None
