"""How the next token is picked: the likeliest, or drawn as the field does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import TopPLogitsWarper

from groundserve.options import AnswerOptions
from python_backend.generate.sampling import choose_seed, draw, open_sampler

LOGITS = np.array([0.5, 2.0, -1.0, 2.0, 1.0, -30.0], np.float32)
UNIFORM = np.linspace(0, 1, 20_001)[:-1]


def shares(logits, **options) -> np.ndarray:
    """Return how much of [0, 1) leads to each token."""
    drawn = [draw(logits, uniform=float(one), **options) for one in UNIFORM]
    return np.bincount(drawn, minlength=len(logits)) / len(UNIFORM)


def test_without_a_temperature_the_lowest_of_the_likeliest_is_picked():
    pick = open_sampler(AnswerOptions(), choose_seed(AnswerOptions()))
    assert [pick(LOGITS) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_are_drawn_by_their_probability(temperature):
    expected = torch.softmax(torch.from_numpy(LOGITS).double() / temperature, dim=0).numpy()
    # One step of the grid at either end of a token's part.
    found = shares(LOGITS, temperature=temperature, top_p=None)
    assert np.abs(found - expected).max() <= 2 / len(UNIFORM)


@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
def test_top_p_keeps_what_transformers_keeps(top_p):
    # No two alike: of equal ones either may be the last to stay.
    logits = np.array([0.5, 2.0, -1.0, 1.9, 1.0, -3.0], np.float32)
    warped = TopPLogitsWarper(top_p=top_p)(None, torch.from_numpy(logits)[None])[0]
    kept = shares(logits, temperature=1.0, top_p=top_p) > 0
    assert kept.tolist() == torch.isfinite(warped).tolist()


def test_a_seed_repeats_the_draws_and_another_does_not():
    def drawn(seed: int) -> list[int]:
        options = AnswerOptions(temperature=2.0, seed=seed)
        pick = open_sampler(options, choose_seed(options))
        return [pick(LOGITS) for _ in range(40)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_without_a_seed_each_request_has_one_of_its_own():
    assert choose_seed(AnswerOptions()) is None
    assert choose_seed(AnswerOptions(temperature=1.0, seed=0)) == 0
    seeds = {choose_seed(AnswerOptions(temperature=1.0)) for _ in range(3)}
    assert len(seeds) == 3
    assert all(AnswerOptions(temperature=1.0, seed=seed) for seed in seeds)  # within the bounds
