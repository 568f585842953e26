"""Text in a request's tensors: UTF-8, and the JSON that the steps of the ensemble pass along."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError

Tensors = dict[str, NDArray[Any]]
"""Tensors of one request or answer, by name."""


def read_texts(tensors: Tensors, name: str) -> list[str]:
    """Return the elements of a BYTES tensor (n,) as text.

    Raises:
        InvalidRequestError: An element is not UTF-8.
    """
    texts = []
    for i, element in enumerate(tensors[name]):
        try:
            texts.append(element.decode("utf-8"))
        except UnicodeDecodeError:
            raise InvalidRequestError(f"{name}[{i}] must be UTF-8") from None
    return texts


def read_optional_text(tensors: Tensors, name: str) -> str | None:
    """Return the element of a BYTES tensor (1,), None where the request leaves it out."""
    return read_texts(tensors, name)[0] if name in tensors else None


def json_tensor(value: dict[str, Any]) -> NDArray[np.object_]:
    """Return a BYTES tensor (1,) with one JSON object."""
    return np.array([json.dumps(value).encode()], np.object_)


def add_timing(tensors: Tensors, name: str, timing_ms: dict[str, float]) -> NDArray[np.object_]:
    """Return the stage info of the step before, with more milliseconds in its `timing_ms`.

    Raises:
        InvalidRequestError: The tensor is not what a step answers; only a caller of an inner model
            can make that happen.
    """
    try:
        info = json.loads(tensors[name][0])
        return json_tensor({**info, "timing_ms": {**info["timing_ms"], **timing_ms}})
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidRequestError(f"{name} must be what the step before answered") from error
