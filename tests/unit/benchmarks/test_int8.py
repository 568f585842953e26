import numpy as np
import pytest

from benchmarks.int8 import agreement, summary


def test_agreement_of_a_question():
    expected = np.arange(16, dtype=np.float32)
    shifted = expected + 3
    found = agreement(shifted, expected)
    assert (found["largest"], found["rms"]) == (3, 3)
    # A shift changes no ranking.
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["overlap_8"] == 1
    assert found["random_overlap_8"] == 0.5
    # 16 frames have no 16 best among them.
    assert "overlap_16" not in found
    reversed_ = agreement(expected[::-1].copy(), expected)
    assert reversed_["rank_correlation"] == pytest.approx(-1)
    assert reversed_["overlap_8"] == 0
    rows = summary([found, reversed_])
    assert rows["overlap_8"] == {"mean": 0.5, "min": 0, "max": 1}


def test_of_equal_logits_the_earlier_frame_is_among_the_best():
    equal = np.zeros(16, np.float32)
    assert agreement(equal, -np.arange(16, dtype=np.float32))["overlap_8"] == 1
