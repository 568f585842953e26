"""The ratio of benchmarks/ensemble_overhead.py."""

from __future__ import annotations

import pytest

from benchmarks.ensemble_overhead import added_percent, medians


def test_added_percent_is_the_median_of_pairs_and_not_a_ratio_of_medians():
    assert added_percent([100.0, 200.0, 10.0], [110.0, 210.0, 20.0]) == pytest.approx(10.0)


def test_medians_count_a_part_that_a_row_lacks_as_nothing():
    rows = [{"client": 1.0, "server": 5.0}, {"client": 3.0}, {"client": 2.0}]
    assert medians(rows) == {"client": 2.0, "server": 0.0}
