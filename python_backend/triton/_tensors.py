"""Text in a request's tensors."""

from __future__ import annotations

from typing import Any

from groundserve.errors import InvalidRequestError

Tensors = dict[str, Any]
"""Tensors of one request or answer, by name: numpy, or torch where they lie on a GPU."""


def read_texts(tensors: Tensors, name: str) -> list[str]:
    """Return the elements of a BYTES tensor (n,) as text, none where the request leaves it out.

    Raises:
        InvalidRequestError: An element is not UTF-8.
    """
    texts = []
    for i, element in enumerate(tensors.get(name, ())):
        try:
            texts.append(element.decode("utf-8"))
        except UnicodeDecodeError:
            raise InvalidRequestError(f"{name}[{i}] must be UTF-8") from None
    return texts


def read_optional_text(tensors: Tensors, name: str) -> str | None:
    """Return the element of a BYTES tensor (1,), None where the request leaves it out."""
    return read_texts(tensors, name)[0] if name in tensors else None
