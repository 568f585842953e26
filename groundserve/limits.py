"""Ceilings that a server applies before it allocates anything."""

from __future__ import annotations

from dataclasses import dataclass, fields

from groundserve.errors import InvalidRequestError

MIB = 1024**2
GIB = 1024**3


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
    max_num_frames: int = 1024
    """Sampled frames T."""
    max_queries: int = 32
    """Questions in one request."""
    max_query_bytes: int = 16 * 1024
    """UTF-8 bytes of one question."""
    max_options_bytes: int = 4 * 1024
    """UTF-8 bytes of the OPTIONS JSON."""
    max_request_seconds: float = 600.0
    """Wall time of one request; work stops at the next chunk after it."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not value > 0:
                raise InvalidRequestError(f"{field.name} must be > 0, got {value!r}")
