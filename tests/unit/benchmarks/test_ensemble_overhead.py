"""The ratio of benchmarks/ensemble_overhead.py."""

from __future__ import annotations

import pytest

from benchmarks.ensemble_overhead import added_percent


def test_added_percent_is_the_median_of_pairs_and_not_a_ratio_of_medians():
    pairs = [(100.0, 110.0), (200.0, 210.0), (10.0, 20.0)]
    assert added_percent(pairs) == pytest.approx(10.0)
