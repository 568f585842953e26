"""When requests arrive, and which of them are about a video that the server knows; by seed."""

from __future__ import annotations

import random
from collections.abc import Iterator


def poisson(rate: float, seconds: float, *, seed: int) -> Iterator[float]:
    """Yield the times of a Poisson process, in seconds from 0 on, all below `seconds`.

    Args:
        rate: Arrivals a second on average.
        seconds: When it ends.
        seed: Of the gaps between arrivals.
    """
    rng, at = random.Random(seed), 0.0
    while (at := at + rng.expovariate(rate)) < seconds:
        yield at


def mix(cached_share: float, *, seed: int) -> Iterator[bool]:
    """Yield for each request, without end, whether it is about a video that was asked about before.

    Args:
        cached_share: Of all requests, in [0, 1].
        seed: Of the draws.
    """
    rng = random.Random(seed)
    while True:
        yield rng.random() < cached_share
