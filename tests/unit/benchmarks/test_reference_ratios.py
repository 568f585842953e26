"""How pairs of answers become ratios and shares of the floor."""

import pytest

from benchmarks._reference_ratios import ratio_at_equal_peaks, ratio_row


def sample(wall, cpu, **timing_ms):
    usage = {"wall_seconds": wall, "cpu_seconds": cpu, "peak_rss_mib": 100.0}
    return {"usage": usage, "timing_ms": timing_ms, "num_frames": 64}


def pair(reference, ours):
    return {
        "reference": reference,
        "ours": ours,
        "logit_error": 1e-6,
        "reference_was_first": True,
    }


def row(pairs, *, needed=None, ours=None, reference=None):
    floor = {"encode": 2.0, "ground": 1.0}
    return ratio_row(
        pairs, needed=needed or floor, ours=ours or floor, reference=reference or floor
    )


def test_a_ratio_is_the_median_of_the_pairs_and_not_of_the_sides():
    # Ratios 2, 1 and 10; the sides' medians, 10 and 5, would give 2 by chance only here.
    pairs = [
        pair(sample(10.0, 20.0), sample(5.0, 8.0)),
        pair(sample(7.0, 12.0), sample(7.0, 12.0)),
        pair(sample(30.0, 40.0), sample(3.0, 4.0)),
    ]
    found = row(pairs)
    assert found["pairs"] == [2.0, 1.0, 10.0]
    assert (found["median"], found["min"], found["max"]) == (2.0, 1.0, 10.0)
    assert found["cpu_seconds"]["pairs"] == [2.5, 1.0, 10.0]
    assert found["reference"]["wall_seconds"] == 10.0
    assert found["ours"]["cpu_seconds"] == 8.0


def test_shares_are_of_what_is_needed_and_of_what_a_side_computes():
    theirs = sample(10.0, 20.0, decode=4000.0, encode=5000.0, ground=1000.0)
    ours = sample(6.0, 12.0, decode=2000.0, encode=3000.0, ground=1000.0)
    found = row([pair(theirs, ours)], reference={"encode": 3.5, "ground": 1.0})
    assert found["floor_seconds"] == 3.0
    assert found["ours"]["whole_share_of_floor"] == pytest.approx(3.0 / 6.0)
    assert found["ours"]["nets_share_of_peak"] == pytest.approx(3.0 / 4.0)
    assert found["reference"]["whole_share_of_floor"] == pytest.approx(3.0 / 10.0)
    assert found["reference"]["nets_share_of_peak"] == pytest.approx(4.5 / 6.0)


def test_at_equal_peaks_only_the_networks_of_the_reference_are_faster():
    theirs = sample(10.0, 20.0, decode=4000.0, encode=5000.0, ground=1000.0)
    pairs = [pair(theirs, sample(4.0, 8.0, encode=3000.0))]
    # 4 s of decoding stay, 6 s of networks become 3.
    assert ratio_at_equal_peaks(pairs, times_faster=2.0)["pairs"] == [pytest.approx(7.0 / 4.0)]
    assert ratio_at_equal_peaks(pairs, times_faster=1.0)["median"] == pytest.approx(2.5)
