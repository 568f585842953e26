"""When to ask an endpoint again."""

from __future__ import annotations

import random
from datetime import datetime
from email.utils import parsedate_to_datetime

MAX_WAIT_SECONDS = 120.0
"""Longest wait between two tries, whatever `Retry-After` says."""
_FIRST_WAIT_SECONDS = 1.0


def wait_seconds(retry_after: float | None, num_retries: int) -> float:
    """Return how long to wait before the next try.

    Args:
        retry_after: Seconds that the endpoint asks for; None where it does not.
        num_retries: Tries that came to nothing so far, >= 1.
    """
    if retry_after is not None:
        return min(retry_after, MAX_WAIT_SECONDS)
    longest = min(_FIRST_WAIT_SECONDS * 2 ** (num_retries - 1), MAX_WAIT_SECONDS)
    # Drawn from the upper half, so that those who were refused together do not come together.
    return random.uniform(longest / 2, longest)


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds that a `Retry-After` asks to wait, a number of them or a date.

    None without the header, or where it is neither.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
            seconds = (when - datetime.now(when.tzinfo)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if seconds < float("inf") else None
