"""From logits to the next token: the likeliest, or one drawn."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from groundserve.options import AnswerOptions

Sampler = Callable[[NDArray[np.float32]], int]
"""From float32 (V,), finite logits, to the next token of one answer."""


def choose_seed(options: AnswerOptions) -> int | None:
    """Return the seed of a request's draws: the one asked for, else a new one.

    None where nothing is drawn.
    """
    if options.temperature == 0:
        return None
    return secrets.randbits(63) if options.seed is None else options.seed


def open_sampler(options: AnswerOptions, seed: int | None) -> Sampler:
    """Return what picks the tokens of one answer.

    Each answer has draws of its own, so that it does not depend on what else was asked.
    """
    if seed is None:
        return pick_likeliest
    # By name: numpy may make another one its default.
    uniform = np.random.Generator(np.random.PCG64(seed))
    # A whole number past any of numpy's would make objects of its arrays.
    temperature, top_p = float(options.temperature), options.top_p
    return lambda logits: draw(
        logits, temperature=temperature, top_p=top_p, uniform=uniform.random()
    )


def pick_likeliest(logits: NDArray[np.float32]) -> int:
    """Return the token with the highest of float32 (V,) logits, the lowest of equals."""
    return int(np.argmax(logits))


def draw(
    logits: NDArray[np.float32], *, temperature: float, top_p: float | None, uniform: float
) -> int:
    """Return a token drawn by its probability with `uniform`, in [0, 1).

    Logits, float32 (V,), are divided by the temperature, > 0. Of the likeliest tokens only as few
    are drawn as reach `top_p`, in (0, 1]; all where None.
    """
    order = np.argsort(-logits, kind="stable")
    # In float64, from the highest down: a small temperature makes the others 0, never infinite.
    lead = logits[order].astype(np.float64) - float(logits[order[0]])
    with np.errstate(over="ignore", under="ignore"):
        reached = np.cumsum(np.exp(lead / temperature))
    if top_p is not None:
        # The first that reaches it is the last to stay.
        num_kept = int(np.searchsorted(reached, top_p * reached[-1])) + 1
        order, reached = order[:num_kept], reached[:num_kept]
    place = int(np.searchsorted(reached, uniform * reached[-1], side="right"))
    # A product just below the whole may be rounded to it.
    return int(order[min(place, len(order) - 1)])
