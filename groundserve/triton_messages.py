"""Triton's own words for a failure, and what callers are told instead.

Triton's texts name regions of shared memory, processes and files, which are nobody's business and,
in the case of regions, let a caller reach into the server (CVE-2025-23320). So none is handed on:
those that are known become ours, and all others `INTERNAL_MESSAGE`.
"""

from __future__ import annotations

from groundserve.errors import UnavailableError

INTERNAL_MESSAGE = "the server failed on this request; its log says why"
"""What callers are told of a failure that they can do nothing about."""

RESTARTING = "a model of the server is being restarted; try again"
MEMORY_FULL = "the server's shared memory is full; try again"
OVERLOADED = "the server has too many requests; try again"
_WAITED = "the request waited too long for its turn; try again"

# Parts of texts of 2.51, some of which it sends as an internal or the caller's error.
_PASSES: dict[str, str] = {
    "has no available versions": RESTARTING,
    "is not healthy": RESTARTING,
    "is not ready": RESTARTING,
    "Server not ready": RESTARTING,
    "Server is stopping": RESTARTING,
    "Failed to increase the shared memory pool size": MEMORY_FULL,
    "Failed to create new mapped region": MEMORY_FULL,
    "Unable to initialize shared memory key": MEMORY_FULL,
    "Exceeds maximum queue size": OVERLOADED,
    "Request timeout expired": _WAITED,
}


def passing_failure(message: str) -> UnavailableError | None:
    """Return the error for a failure that passes by itself, None for any other."""
    for part, text in _PASSES.items():
        if part in message:
            return UnavailableError(text)
    return None
