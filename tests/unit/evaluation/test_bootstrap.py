import numpy as np
import pytest

from groundserve.evaluation.bootstrap import bootstrap, bootstrap_mean


def test_the_value_is_the_plain_mean():
    estimate = bootstrap_mean([1, 2, 6], ["a", "b", "b"], seed=0)
    assert estimate.value == 3.0
    assert (estimate.num_questions, estimate.num_videos) == (3, 2)
    assert estimate.low <= estimate.value <= estimate.high


def test_the_same_seed_gives_the_same_interval():
    values, videos = np.random.default_rng(0).normal(size=40), [str(i // 4) for i in range(40)]
    first = bootstrap_mean(values, videos, seed=1)
    assert first == bootstrap_mean(values, videos, seed=1)
    assert first.low != bootstrap_mean(values, videos, seed=2).low


def test_whole_videos_are_drawn():
    """Two videos of equal questions: every resample gives 0, 1/2 or 1."""
    seen = set()

    def statistic(counts):
        seen.add(tuple(counts))
        return float(counts @ np.array([0, 0, 1, 1]) / counts.sum())

    estimate = bootstrap(statistic, ["a", "a", "b", "b"], seed=0)
    assert seen == {(1, 1, 1, 1), (2, 2, 0, 0), (0, 0, 2, 2)}
    assert (estimate.low, estimate.high) == (0.0, 1.0)


def test_the_interval_has_the_width_of_the_normal_one():
    values = np.random.default_rng(5).normal(size=400)
    estimate = bootstrap_mean(values, [str(i) for i in range(400)], seed=0)
    expected = 2 * 1.96 * values.std() / 20
    assert estimate.high - estimate.low == pytest.approx(expected, rel=0.1)


def test_one_video_allows_no_interval():
    estimate = bootstrap_mean([1.0, 2.0], ["a", "a"], seed=0)
    assert estimate.value == 1.5
    assert estimate.low is None
    assert estimate.high is None
