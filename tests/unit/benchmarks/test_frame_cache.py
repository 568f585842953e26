"""The table of the documentation is that of the committed measurement."""

import json

import pytest

from benchmarks.frame_cache import table
from tests.reference import REPOSITORY

RESULTS = REPOSITORY / "benchmarks" / "results" / "frame_cache_cpu_2026-11-22.json"


@pytest.fixture(scope="module")
def report():
    return json.loads(RESULTS.read_text("utf-8"))


@pytest.fixture(scope="module")
def page():
    return (REPOSITORY / "docs" / "training_runs.md").read_text("utf-8")


def test_the_table_is_in_the_documentation(report, page):
    assert table(report) in page


def test_the_figures_are_in_the_documentation(report, page):
    digits, epochs = report["results"]["digits"], report["results"]["epochs"]
    text = " ".join(page.split())
    shift, ap = digits["logit_shift"], digits["frame_ap"]
    assert f"{digits['questions']} questions on {digits['videos']} `digits` videos" in text
    assert f"logits move by {shift['mean']:.2f} on average" in text
    assert f"by {shift['p99']:.1f} at most in 99 of 100 (largest {shift['largest']:.1f})" in text
    assert f"{digits['top_8_overlap_mean']:.1%} of the best 8 frames stay" in text
    assert f"from {ap['as_decoded']:.3f} to {ap['cached']:.3f}, with a standard error of" in text
    assert f"standard error of {ap['standard_error_of_change']:.3f}" in text
    assert f"takes {epochs['median_ratio']:.1%} of what decoding takes" in text
    hours = 42_519 * 120 / 3600
    size = hours * 3600 * epochs["kilobytes_a_frame_on_disk"] / 1e6
    assert f"{hours:,.0f} hours if its videos last 120 s on average, takes {size:.0f} GB" in text
