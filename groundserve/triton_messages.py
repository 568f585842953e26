"""Triton's own words for a failure, and what callers are told instead.

Triton's texts name regions of shared memory, processes and files, which are nobody's business and,
in the case of regions, let a caller reach into the server (CVE-2025-23320). So none is handed on:
those that are known become ours, and all others `INTERNAL_MESSAGE`.
"""

from __future__ import annotations

from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    MediaError,
    RequestCancelledError,
    UnavailableError,
    UnsupportedError,
)

CLASS_IN_MESSAGE = "class_in_message"
"""Request parameter: put the error's class before its message. Triton has one code for several
classes, and 2.51 hands every error of a model on to another as INTERNAL."""

HEAD = "head"
"""Request parameter of `front`: the head that is asked for."""

CLASSES: dict[str, type[GroundserveError]] = {
    kind.__name__: kind
    for kind in (
        InvalidRequestError,
        MediaError,
        UnsupportedError,
        UnavailableError,
        DeadlineExceededError,
        RequestCancelledError,
    )
}

INTERNAL_MESSAGE = "the server failed on this request; its log says why"
"""What callers are told of a failure that they can do nothing about."""

RESTARTING = "a model of the server is being restarted; try again"
MEMORY_FULL = "the server's shared memory is full; try again"

DECODER_DIED = "the decoder process died while reading this video"
"""Begins what is said of a video that ended the process which decoded it."""

# Parts of texts of 2.51, some of which it sends as an internal or the caller's error.
_PASSES = {
    "has no available versions": RESTARTING,
    "is not healthy": RESTARTING,
    "is not ready": RESTARTING,
    "Server not ready": RESTARTING,
    "Server is stopping": RESTARTING,
    "Failed to increase the shared memory pool size": MEMORY_FULL,
    "Failed to create new mapped region": MEMORY_FULL,
    "Unable to initialize shared memory key": MEMORY_FULL,
}
_ALLOW_MORE_TIME = "allow more time"
"""In every message of ours about a deadline."""


def error_of_class(text: str) -> GroundserveError | None:
    """Return the error whose class stands before its message, None where none does."""
    name, _, message = text.partition(": ")
    return CLASSES[name](message) if name in CLASSES else None


def passing_failure(message: str) -> UnavailableError | None:
    """Return the error for a failure that passes by itself, None for any other."""
    for part, text in _PASSES.items():
        # Parts: the texts around them name models, regions and numbers.
        if part in message:
            return UnavailableError(text)
    return None


def ran_out_of_time(message: str) -> bool:
    """Tell whether a message of ours is about a deadline."""
    return _ALLOW_MORE_TIME in message


def is_decoder_death(error: UnavailableError) -> bool:
    """Tell whether a video ended its decoder process: another server will fare no better."""
    return str(error).startswith(DECODER_DIED)
