"""JSON that arrives with a request: one object, each key once, finite numbers."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from groundserve.errors import InvalidRequestError

_ESCAPED = re.compile(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a message does not repeat as it is: controls, turns of direction, halves of characters."""


def parse_object(text: str | bytes, name: str) -> dict[str, Any]:
    """Read one JSON object; how long it may be the caller has checked.

    Args:
        text: UTF-8.
        name: What an error calls it, such as "OPTIONS".

    Raises:
        InvalidRequestError: Not UTF-8, not JSON, nested too deeply, not an object, or with a
            repeated key, NaN, Infinity, or a whole number of thousands of digits.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise InvalidRequestError(f"{name} must hold each key once, got {shown(key)} twice")
            result[key] = value
        return result

    def reject(constant: str) -> float:
        raise InvalidRequestError(f"{name} must hold finite numbers, got {constant}")

    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(decoded, object_pairs_hook=unique, parse_constant=reject)
    # It is a ValueError, which is caught below.
    except InvalidRequestError:
        raise
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"{name} must be one JSON object in UTF-8") from error
    except ValueError as error:  # CPython refuses to convert integers of thousands of digits
        raise InvalidRequestError(f"{name} holds a number that is too long") from error
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{name} must be one JSON object")
    return value


def is_finite_number(value: object) -> bool:
    """Tell whether a value of JSON is a number that a float holds; 1e999 reads as infinity."""
    # Not `isinstance`: JSON's true is a bool, which is an int.
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def shown(value: object) -> str:
    """Return the value as a message repeats it, never longer than a line."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = f"a {type(value).__name__}"
    text = _ESCAPED.sub(lambda match: ascii(match[0])[1:-1], text)
    # An echo for the caller, who may have sent megabytes.
    return text if len(text) <= 60 else text[:57] + "..."
