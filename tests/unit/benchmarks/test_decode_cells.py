"""What the cells of benchmarks.decode hold, and how they are summed up."""

import numpy as np
import pytest

from benchmarks._decode_cells import (
    Cell,
    all_cells,
    cell_result,
    choose_cells,
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


def test_only_chooses_by_field():
    chosen = choose_cells(all_cells(), "codec=vp9|av1,gop=250,num_frames=512,height=480")
    assert [cell.name for cell in chosen] == [
        "vp9_480p_gop250_120s_512frames_exact_resized",
        "vp9_480p_gop250_120s_512frames_keyframe_resized",
        "av1_480p_gop250_120s_512frames_exact_resized",
        "av1_480p_gop250_120s_512frames_keyframe_resized",
    ]
    with pytest.raises(ValueError, match=r"--only takes codec, .* got 'size'"):
        choose_cells(all_cells(), "size=480")


def test_exact_frames_are_spread_from_first_to_last():
    indices, shifts = CELL.frame_indices()
    assert (indices[0], indices[-1], len(indices), shifts.max()) == (0, 3599, 64, 0)
    assert set(np.diff(indices)) == {57, 58}


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


def test_summary_where_ours_or_all_others_fail():
    failed = [{"error": "no"}]
    ours_failed = cell_result(CELL, {"ours": failed, "a": answers(1.0)})
    alone = cell_result(Cell(**{**vars(CELL), "gop": 250}), {"ours": answers(1.0), "a": failed})
    found = summarise([ours_failed, alone])["exact"]["wall_seconds"]
    assert (found["num_cells"], found["num_fastest"]) == (2, 1)
    assert found["worst"] == {"cell": CELL.name, "ratio": 0.0, "library": "all"}
