import numpy as np
import pytest

from benchmarks.int4 import agreement


def test_agreement_of_logits():
    expected = np.array([[[0.0, 1.0, 4.0], [2.0, -8.0, 1.0]]], np.float32)
    same = agreement(expected, expected)
    assert (same["largest"], same["rms"], same["same_token"], same["divergence"]) == (0, 0, 1, 0)
    assert same["lead"] == pytest.approx((3 + 1) / 2 / 8)
    # Which logits are likelier stays as it is, and so does what is drawn.
    shifted = agreement(expected + 2, expected)
    assert shifted["largest"] == pytest.approx(2 / 8)
    assert (shifted["same_token"], shifted["divergence"]) == (1, pytest.approx(0, abs=1e-12))
    turned = agreement(expected[..., ::-1], expected)
    assert turned["same_token"] == 0
    assert turned["divergence"] > 1
