"""Until when the work of a request goes on, and whether anybody still waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from groundserve.errors import DeadlineExceededError, RequestCancelledError

POLL_SECONDS = 0.05
"""How long a wait may go on without looking whether its request was cancelled."""


@dataclass(frozen=True)
class Deadline:
    """Checked between chunks and in every wait; a kernel is not interrupted in its middle."""

    at_monotonic_seconds: float
    """On the clock of `time.monotonic()`."""
    total_seconds: float
    """The allowance it was made from, for the message."""
    is_cancelled: Callable[[], bool] | None = None
    """Tells whether nobody waits for the answer any more. Any thread may ask, as often as it likes.
    None where nothing can cancel the work."""

    @classmethod
    def after(cls, seconds: float, *, is_cancelled: Callable[[], bool] | None = None) -> Deadline:
        """Make a deadline `seconds` from now.

        Args:
            seconds: Allowance; 0 or less has passed already.
            is_cancelled: See the field.
        """
        return cls(time.monotonic() + seconds, seconds, is_cancelled)

    def remaining_seconds(self) -> float:
        """Seconds left, negative once it has passed."""
        return self.at_monotonic_seconds - time.monotonic()

    def check(self) -> None:
        """Raise when the work is to stop.

        Raises:
            RequestCancelledError: Nobody waits for the answer any more.
            DeadlineExceededError: No time is left.
        """
        self.wait_seconds()

    def wait_seconds(self) -> float:
        """Check, and return how long a wait may last before the next check, > 0.

        Raises:
            RequestCancelledError: Nobody waits for the answer any more.
            DeadlineExceededError: No time is left.
        """
        if self.is_cancelled is not None and self.is_cancelled():
            raise RequestCancelledError("the request was cancelled by its caller")
        remaining_seconds = self.remaining_seconds()
        if remaining_seconds <= 0:
            raise DeadlineExceededError(
                f"the request did not finish within {self.total_seconds:.6g} s; "
                "allow more time or sample fewer frames"
            )
        # Nothing can end the wait early, so it need not be cut into turns.
        if self.is_cancelled is None:
            return remaining_seconds
        return min(remaining_seconds, POLL_SECONDS)
