"""Which frames each arm shows."""

import numpy as np
import pytest

from groundserve.evaluation.qa.arms import arms_of, oracle_frames, uniform_frames
from tests.unit.evaluation.qa.questions import question

SECONDS = np.arange(20) / 2  # 20 frames, two a second


@pytest.mark.parametrize(
    ("num_source_frames", "num_frames", "expected"),
    [
        (100, 4, [0, 33, 66, 99]),
        (10, 3, [0, 4, 9]),
        (1, 1, [0]),
    ],
)
def test_uniform_frames_are_the_harness_linspace(num_source_frames, num_frames, expected):
    assert uniform_frames(num_source_frames, num_frames).tolist() == expected


@pytest.mark.parametrize(
    ("spans", "num_frames", "expected"),
    [
        pytest.param([(2.0, 4.0)], 3, [4, 6, 8], id="spread_inside"),
        pytest.param([(1.0, 1.0), (8.0, 8.5)], 3, [2, 16, 17], id="all_inside"),
        pytest.param([(3.0, 3.5)], 4, [5, 6, 7, 8], id="filled_with_the_nearest"),
        pytest.param([(3.0, 3.5)], 3, [5, 6, 7], id="of_two_as_near_the_earlier"),
        pytest.param([(90.0, 99.0)], 2, [18, 19], id="past_the_end"),
    ],
)
def test_oracle_frames(spans, num_frames, expected):
    assert oracle_frames(SECONDS, spans, num_frames).tolist() == expected


def test_oracle_frames_need_labels():
    arms = ["none", "uniform", "oracle"]
    assert arms_of(question(), arms) == ["none", "uniform"]
    assert arms_of(question(spans=((0.0, 1.0),)), arms) == arms
