"""What the cells of benchmarks.decode hold, and how they are summed up."""

import pytest

from benchmarks._decode_cells import (
    Cell,
    cell_result,
    summarise,
)

CELL = Cell(
    codec="h264", height=480, gop=12, seconds=120, num_frames=64, seek="exact", output="resized"
)


def answers(*wall_seconds, cpu=1.0):
    return [
        {"wall_seconds": wall, "cpu_seconds": cpu, "peak_rss_mib": 1.0, "shape": [64, 384, 384, 3]}
        for wall in wall_seconds
    ]


def test_keyframes_are_the_nearest_and_the_shift_is_in_seconds():
    # Of 1 s at 30 frames: 0, 14 and 29 move to the keys 0, 12 and 24.
    cell = Cell(
        codec="h264", height=36, gop=12, seconds=1, num_frames=3, seek="keyframe", output="resized"
    )
    indices, shifts = cell.frame_indices()
    assert list(indices) == [0, 12, 24]
    assert shifts == pytest.approx([0, 2 / 30, 5 / 30])


def test_ratio_is_the_median_over_rounds_that_ran_side_by_side():
    result = cell_result(CELL, {"ours": answers(1.0, 2.0, 4.0), "av": answers(3.0, 4.0, 4.0)})
    # 3, 2 and 1; the medians alone would give 4 / 2, the means 11 / 7.
    assert result["ratios"]["wall_seconds"] == {"av": 2.0}


def test_a_library_that_fails_is_marked_and_leaves_the_cell():
    runs = {
        "ours": answers(1.0, 1.0),
        "late": [*answers(0.1), {"error": "its process ended with -14"}],
        "other": answers(2.0, 2.0),
    }
    result = cell_result(CELL, runs)
    assert result["libraries"]["late"] == {"error": "its process ended with -14"}
    assert result["ratios"]["wall_seconds"] == {"other": 2.0}


def test_summary_counts_ties_as_first_and_names_the_worst():
    cells = []
    for gop, others in ((12, 0.98), (250, 0.9)):
        cell = Cell(**{**vars(CELL), "gop": gop})
        runs = {"ours": answers(1.0), "a": answers(others, cpu=3.0), "b": answers(5.0, cpu=2.0)}
        cells.append(cell_result(cell, runs))
    found = summarise(cells)["exact"]
    lost = "h264_480p_gop250_120s_64frames_exact_resized"
    assert found["wall_seconds"] == {
        "num_cells": 2,
        "num_fastest": 1,
        "share_fastest": 0.5,
        "median_ratio": 0.94,
        "worst": {"cell": lost, "ratio": 0.9, "library": "a"},
        "lost": {lost: {"ratio": 0.9, "library": "a"}},
    }
    assert found["cpu_seconds"]["share_fastest"] == 1.0
    assert summarise(cells)["keyframe"]["wall_seconds"]["share_fastest"] is None
