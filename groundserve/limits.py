"""Ceilings that a server applies before it allocates anything."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from groundserve.errors import InvalidRequestError

MIB = 1024**2
GIB = 1024**3

_VARIABLE_PREFIX = "GROUNDSERVE_MAX_"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest request a server accepts. Every field is a hard ceiling, never a default."""

    max_upload_bytes: int = 256 * MIB
    """Size of an encoded file sent inside the request."""
    max_file_bytes: int = 16 * GIB
    """Size of an encoded file behind a URI or path; it is read from disk, never held in memory."""
    max_duration_seconds: float = 6 * 3600.0
    """Presentation time of the last frame."""
    max_side_pixels: int = 8192
    """Coded width and height."""
    max_frame_pixels: int = 8192 * 4352
    """Width times height: the largest picture of level 6.2 in H.264, HEVC and AV1, for 8K video."""
    max_num_frames: int = 1024
    """Sampled frames T."""
    max_queries: int = 32
    """Questions in one request."""
    max_query_bytes: int = 16 * 1024
    """UTF-8 bytes of one question."""
    max_text_bytes: int = 24 * 1024
    """UTF-8 bytes of all questions of one request together: a long one and 31 ordinary ones."""
    max_new_tokens: int = 4096
    """Tokens of one answer, where a family answers in text."""
    max_options_bytes: int = 4 * 1024
    """UTF-8 bytes of the OPTIONS JSON."""
    max_request_seconds: float = 600.0
    """Wall time of one request; work stops at the next chunk after it."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            # `not >` and not `<=`: NaN is refused, too.
            if isinstance(value, bool) or not value > 0:
                raise InvalidRequestError(f"{field.name} must be > 0, got {value!r}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read an operator's ceilings: GROUNDSERVE_MAX_QUERIES=8 sets `max_queries`, and so on.

        Raises:
            InvalidRequestError: A variable of that prefix names no field, or its value is not a
                plain number above 0.
        """
        kinds = {f"GROUNDSERVE_{field.name.upper()}": field for field in fields(cls)}
        values: dict[str, float] = {}
        for variable, text in environment.items():
            if not variable.startswith(_VARIABLE_PREFIX):
                continue
            if variable not in kinds:
                raise InvalidRequestError(
                    f"{variable} is not a limit; known: {', '.join(sorted(kinds))}"
                )
            field = kinds[variable]
            # Annotations are text here (`from __future__ import annotations`).
            values[field.name] = parse_number(variable, text, is_whole=field.type == "int")
        return cls(**values)  # type: ignore[arg-type]  # whole where the field is


def parse_number(variable: str, text: str, *, is_whole: bool = True) -> float:
    """Return the number above 0 that an environment variable holds."""
    # 15 digits are exact as a float; signs, exponents and names such as "inf" do not match.
    pattern, kind = (r"[0-9]{1,15}", "whole number") if is_whole else (r"[0-9.]{1,15}", "number")
    try:
        if re.fullmatch(pattern, text, re.ASCII) and (value := float(text)) > 0:
            return int(value) if is_whole else value
    except ValueError:  # more than one point
        pass
    raise InvalidRequestError(f"{variable} must be a {kind} above 0, got {text!r}")
