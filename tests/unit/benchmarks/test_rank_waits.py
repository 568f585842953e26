"""The simulation behind the table of docs/training.md."""

import json

import pytest

from benchmarks.rank_waits import KINDS, ratios, simulate, table
from tests.reference import REPOSITORY

RESULTS = REPOSITORY / "benchmarks" / "results" / "rank_waits_simulated_2026-11-22.json"


def test_the_page_has_the_table():
    page = (REPOSITORY / "docs" / "training.md").read_text("utf-8")
    assert table(json.loads(RESULTS.read_text())["results"]) in page


def test_ratios_by_hand():
    # Passes of (4, 2) and (1, 3) take 4 + 3, the ranks' sums are 5 and 5, their mean 5.
    assert ratios([4.0, 2.0, 1.0, 3.0], [[0, 2], [1, 3]]) == (7 / 5, 1)


def test_dealing_shortens_the_wait_where_there_is_more_than_one_pass():
    found = simulate(16, seeds=2, steps=3)
    for kind in KINDS:
        drawn, folder, duration = (found[name][kind]["mean"] for name in found)
        assert 1 <= duration < folder < drawn
    one_pass = simulate(128, seeds=2, steps=3)
    means = [kinds[kind]["mean"] for kinds in one_pass.values() for kind in KINDS]
    assert means == pytest.approx([means[0]] * 6)
