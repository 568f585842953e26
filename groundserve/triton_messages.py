"""Tell from Triton's own words whether a failure passes by itself."""

from __future__ import annotations

RESTARTING = "a model of the server is being restarted; try again"
"""What callers are told instead."""

# Said as an internal or a caller's error by 2.51 while a model's process is dead or reloaded.
_PHRASES = ("has no available versions", "is not healthy", "is not ready")


def is_restarting(message: str) -> bool:
    """Whether a model could not be reached because it is down for a moment."""
    return any(phrase in message for phrase in _PHRASES)
