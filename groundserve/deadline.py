"""A point in time after which a request's work stops."""

from __future__ import annotations

import time
from dataclasses import dataclass

from groundserve.errors import DeadlineExceededError


@dataclass(frozen=True)
class Deadline:
    """Checked between chunks; nothing is interrupted in the middle of a kernel."""

    at_monotonic_seconds: float
    """On the clock of `time.monotonic()`."""
    total_seconds: float
    """The allowance it was made from, for the message."""

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Make a deadline `seconds` from now."""
        return cls(time.monotonic() + seconds, seconds)

    def remaining_seconds(self) -> float:
        """Seconds left, negative once it has passed."""
        return self.at_monotonic_seconds - time.monotonic()

    def check(self) -> None:
        """Raise when the deadline has passed.

        Raises:
            DeadlineExceededError: No time is left.
        """
        if self.remaining_seconds() <= 0:
            raise DeadlineExceededError(
                f"the request did not finish within {self.total_seconds:.6g} s; "
                "allow more time or sample fewer frames"
            )
