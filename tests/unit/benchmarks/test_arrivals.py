"""When requests arrive, and which are about a known video."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest

from benchmarks._arrivals import mix, poisson

RATE, SECONDS = 50.0, 200.0


def test_a_seed_gives_the_same_times_again():
    times = list(poisson(RATE, SECONDS, seed=3))
    assert times == list(poisson(RATE, SECONDS, seed=3))
    assert times != list(poisson(RATE, SECONDS, seed=4))
    assert all(before < after for before, after in pairwise(times))
    assert times[-1] < SECONDS


@pytest.mark.parametrize("seed", range(5))
def test_gaps_are_exponential_and_counts_of_a_second_vary_as_much_as_their_mean(seed):
    times = np.array(list(poisson(RATE, SECONDS, seed=seed)))
    # The number is a Poisson variable of mean 10,000: five standard deviations are 500.
    assert abs(len(times) - RATE * SECONDS) < 500
    gaps = np.sort(np.diff(times, prepend=0.0))
    expected = 1 - np.exp(-RATE * gaps)
    seen = np.arange(1, len(gaps) + 1) / len(gaps)
    # Kolmogorov-Smirnov: past 1.95 / sqrt(n) in one of a thousand samples.
    assert np.abs(expected - seen).max() < 1.95 / np.sqrt(len(gaps))
    counts, _ = np.histogram(times, bins=int(SECONDS), range=(0, SECONDS))
    # Variance over mean is 1, with a standard deviation of sqrt(2 / (200 - 1)) = 0.1.
    assert abs(counts.var(ddof=1) / counts.mean() - 1) < 0.5


def test_mix_has_its_share():
    kinds = list(islice(mix(0.3, seed=1), 10_000))
    assert kinds == list(islice(mix(0.3, seed=1), 10_000))
    assert abs(sum(kinds) - 3000) < 5 * np.sqrt(10_000 * 0.3 * 0.7)


@pytest.mark.parametrize(("share", "kind"), [(0.0, False), (1.0, True)])
def test_mix_of_one_kind(share, kind):
    assert set(islice(mix(share, seed=0), 1000)) == {kind}
