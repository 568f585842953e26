import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from groundserve.errors import InvalidRequestError
from groundserve.selection import best_first, select_frames, sigmoid

SELECTORS = ["topk", "spread", "min_gap", "inverse_transform"]


def select(logits, num_selected, selector="topk"):
    logits = np.array(logits, np.float32)
    indices = np.arange(len(logits), dtype=np.int64) * 10
    return select_frames(logits, indices, num_selected=num_selected, selector=selector).tolist()


@pytest.mark.parametrize(
    ("logits", "num_selected", "expected"),
    [
        pytest.param([0.1, 0.9, 0.5], 2, [10, 20], id="time_order_not_score_order"),
        pytest.param([0.5, 0.5, 0.5], 1, [0], id="tie_keeps_earlier"),
        pytest.param([0.1, 0.9, 0.5], 9, [0, 10, 20], id="short_video_keeps_all"),
        pytest.param([20.0, 21.0, 22.0], 1, [20], id="ranks_logits_that_the_sigmoid_merges"),
    ],
)
def test_topk(logits, num_selected, expected):
    assert select(logits, num_selected) == expected


def test_spread_takes_the_best_of_each_equal_stretch():
    assert select([5, 4, 3, 0, 1, 0], 2, "spread") == [0, 40]


def test_spread_splits_lengths_that_do_not_divide():
    assert select([1, 0, 0, 0, 0, 1, 1], 3, "spread") == [0, 20, 50]


@pytest.mark.parametrize("selector", SELECTORS)
@settings(deadline=None)
@given(
    logits=arrays(np.float32, st.integers(1, 60), elements=st.floats(-30, 30, width=32)),
    num_selected=st.integers(1, 70),
)
def test_every_selector_returns_the_right_number_increasing(selector, logits, num_selected):
    indices = np.arange(len(logits), dtype=np.int64) * 3
    got = select_frames(logits, indices, num_selected=num_selected, selector=selector)
    assert len(got) == min(num_selected, len(logits))
    assert got.dtype == np.int64
    assert (np.diff(got) > 0).all()
    assert np.isin(got, indices).all()


def plain_min_gap(logits, num_selected):
    """The rule in its own words: compare each candidate with everything chosen so far."""
    chosen, gap = [], len(logits) // num_selected
    while True:
        for position in sorted(range(len(logits)), key=lambda p: (-logits[p], p)):
            if all(abs(position - other) >= gap for other in chosen):
                chosen.append(position)
            if len(chosen) == num_selected:
                return sorted(chosen)
        gap = max(1, gap // 2)


def plain_inverse_transform(logits, num_selected):
    mass = np.cumsum(sigmoid(logits).astype(np.float64))
    mass = mass if mass[-1] > 0 else np.arange(1.0, len(logits) + 1)
    chosen = []
    for k in range(num_selected):
        reached = [p for p in range(len(logits)) if mass[p] / mass[-1] >= (k + 0.5) / num_selected]
        if reached[0] not in chosen:
            chosen.append(reached[0])
    best = sorted(range(len(logits)), key=lambda p: (-logits[p], p))
    left = [p for p in best if p not in chosen]
    return sorted(chosen + left[: num_selected - len(chosen)])


@pytest.mark.parametrize(
    ("selector", "oracle"),
    [("min_gap", plain_min_gap), ("inverse_transform", plain_inverse_transform)],
)
@settings(deadline=None)
@given(
    logits=arrays(
        np.float32,
        st.integers(2, 40),
        # Few values, so that many are equal; -200 has no mass.
        elements=st.sampled_from([-200, -3, -0.5, 0, 0.5, 3, 200]),
    ),
    left_out=st.integers(1, 40),
)
def test_selectors_choose_what_their_rule_says(selector, oracle, logits, left_out):
    num_selected = max(1, len(logits) - left_out)
    expected = [10 * position for position in oracle(logits, num_selected)]
    assert select(logits, num_selected, selector) == expected


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_rejects_logits_that_are_not_finite(selector, value):
    with pytest.raises(InvalidRequestError, match="frame_logits must be finite"):
        select([0, value, 1], 1, selector)


def test_best_first_keeps_the_earlier_of_equal_logits():
    assert best_first(np.array([1, 2, 2, 0], np.float32)).tolist() == [1, 2, 0, 3]


def test_sigmoid_survives_both_ends():
    got = sigmoid(np.array([-1000, -1, 0, 1, 1000], np.float32))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [0, 0.26894143, 0.5, 0.7310586, 1], rtol=1e-6)
