"""DIR/log: what happened, one JSON object a line, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from groundserve.batch.events import Event

if TYPE_CHECKING:
    from groundserve.batch.storage import Storage

HEARTBEAT_SECONDS = 10.0
"""Longest silence of a journal whose driver lives, on a local disk."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line."""

    time: float
    """Seconds since the epoch."""
    attempt: int
    event: Event | None
    """None: a heartbeat, or a line of another version."""


class Journal:
    """Writes the log of one attempt."""

    def __init__(self, storage: Storage, attempt: int) -> None:
        raise NotImplementedError

    def write(self, event: Event) -> None:
        """Add a line, and hand it to the system at once."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what is left, and end the heartbeat."""
        raise NotImplementedError


def read_journal(storage: Storage, attempt: int) -> Iterator[Entry]:
    """Yield the lines of an attempt; a last one that was cut short is left out."""
    raise NotImplementedError
