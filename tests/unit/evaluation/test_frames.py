import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from groundserve.evaluation.frames import (
    average_precision,
    random_average_precision,
    recall_at_k,
    roc_auc,
    uniform_positions,
)


def logits(*values):
    return np.array(values, np.float32)


def labels(*values):
    return np.array(values, np.bool_)


@pytest.mark.parametrize(
    ("frame_logits", "relevant", "expected"),
    [
        pytest.param([3, 2, 1, 0], [1, 1, 0, 0], 1.0, id="perfect"),
        pytest.param([3, 2, 1, 0], [0, 0, 1, 1], (1 / 3 + 2 / 4) / 2, id="reversed"),
        pytest.param([5, 5, 5, 5], [0, 1, 0, 0], 1 / 4, id="constant_gives_the_base_rate"),
        pytest.param([2, 1, 1, 0], [1, 1, 0, 0], (1 / 1 + 2 / 3) / 2, id="a_tie_is_taken_whole"),
    ],
)
def test_average_precision(frame_logits, relevant, expected):
    assert average_precision(logits(*frame_logits), labels(*relevant)) == pytest.approx(expected)


def random_questions(num):
    """Logits with and without ties, and labels with at least one frame of each kind."""
    rng = np.random.default_rng(3)
    for number in range(num):
        size = int(rng.integers(2, 60))
        scores = rng.normal(size=size).astype(np.float32)
        if number % 2:
            scores = np.round(scores)
        relevant = rng.random(size) < rng.uniform(0.1, 0.9)
        relevant[:2] = [True, False]
        yield scores, rng.permutation(relevant)


def test_average_precision_is_that_of_sklearn():
    for scores, relevant in random_questions(200):
        expected = average_precision_score(relevant, scores)
        assert average_precision(scores, relevant) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("num_selected", "expected"),
    [(1, 0.0), (2, 0.5), (3, 0.5), (4, 1.0), (9, 1.0)],
)
def test_recall_at_k(num_selected, expected):
    got = recall_at_k(logits(4, 3, 2, 1), labels(0, 1, 0, 1), num_selected=num_selected)
    assert got == expected


def test_recall_within_a_tie_is_the_mean_over_all_orders():
    scores, relevant = logits(9, 5, 5, 5, 5, 1), labels(0, 1, 0, 1, 0, 1)
    for num_selected in range(1, 7):
        kept = []
        for order in itertools.permutations(range(1, 5)):
            ranked = [0, *order, 5]
            kept.append(relevant[ranked[:num_selected]].sum() / 3)
        got = recall_at_k(scores, relevant, num_selected=num_selected)
        assert got == pytest.approx(np.mean(kept))


@pytest.mark.parametrize(
    ("num_frames", "num_selected", "expected"),
    [
        (10, 4, [1, 3, 6, 8]),
        (5, 1, [2]),
        (4, 4, [0, 1, 2, 3]),
        (2, 5, [0, 1]),
    ],
)
def test_uniform_positions(num_frames, num_selected, expected):
    assert uniform_positions(num_frames, num_selected).tolist() == expected


@pytest.mark.parametrize("num_relevant", [1, 2, 3, 5])
def test_random_average_precision_is_the_mean_over_all_orders(num_relevant):
    relevant = np.arange(5) < num_relevant
    precisions = [
        average_precision(np.array(order, np.float32), relevant)
        for order in itertools.permutations(range(5))
    ]
    assert random_average_precision(5, num_relevant) == pytest.approx(np.mean(precisions))


def test_roc_auc_is_that_of_sklearn():
    for scores, relevant in random_questions(200):
        expected = roc_auc_score(relevant, scores)
        assert roc_auc(scores[relevant], scores[~relevant]) == pytest.approx(expected)
