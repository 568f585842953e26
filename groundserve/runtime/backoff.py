"""Decide how long to wait before something that failed is started again."""

from __future__ import annotations

FIRST_DELAY_SECONDS = 0.5
"""Wait before the second start in a row; the first is made at once, later waits double."""

MAX_DELAY_SECONDS = 5.0
"""Longest wait."""

QUIET_SECONDS = 60.0
"""After serving for so long, failures before that are forgotten."""


class Backoff:
    """The waits of one thing that may fail; times are of a clock that never goes back."""

    def __init__(self) -> None:
        self._num_failures = 0
        self._served_since: float | None = None
        self.due: float | None = None
        """When to start next; None while nothing is to be started."""

    def fail(self, now: float) -> float:
        """Count one more failure and return when a start is `due`."""
        # Serving for a moment between two failures does not count: a crash loop serves, too.
        if self._served_since is not None and now - self._served_since >= QUIET_SECONDS:
            self._num_failures = 0
        self._served_since = None
        self.due = now + delay_seconds(self._num_failures)
        self._num_failures += 1
        return self.due

    def succeed(self, now: float) -> None:
        """Say that it serves from now on."""
        self._served_since = now
        self.due = None


def delay_seconds(num_failures: int) -> float:
    """Return the wait after a failure that followed so many others."""
    if num_failures == 0:
        return 0.0
    # The exponent is bounded: a server that fails for a month must not overflow a float.
    return min(FIRST_DELAY_SECONDS * 2.0 ** min(num_failures - 1, 16), MAX_DELAY_SECONDS)
