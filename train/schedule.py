"""The share of the peak learning rate that a step trains at."""

from __future__ import annotations

import math


def num_warmup_steps(num_steps: int, warmup_ratio: float) -> int:
    """Return how many steps the rate rises in."""
    return math.ceil(num_steps * warmup_ratio)


def rate_factor(step: int, *, num_steps: int, warmup_ratio: float) -> float:
    """Return the learning rate of a step relative to its peak.

    The rate rises linearly from 0, which the first step has, and then falls along half a cosine
    to 0, which it would have one step after the last.

    Args:
        step: Counted from 0.
        num_steps: Of the whole run.
        warmup_ratio: Share of the steps, rounded up, in which the rate rises.

    Source: transformers' `get_cosine_schedule_with_warmup`.
    """
    num_warmup = num_warmup_steps(num_steps, warmup_ratio)
    if step < num_warmup:
        return step / num_warmup
    # max: with warm-up alone no step of the run gets here, and a caller that asks must not divide
    # by 0.
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
