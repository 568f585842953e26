"""What a family's plan may not be: its bug, found before anything is decoded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.python_backend.plans import frame_units, plan_of

THREE = frame_units([0, 4, 7])  # of a video of 8 frames


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"frame_indices": np.array([0, 7, 4])}, "frames come in the order of time"),
        ({"frame_indices": np.array([-1, 4, 7])}, "frames are the video's"),
        ({"frame_indices": np.array([0, 4, 8])}, "frames are the video's"),
        ({"frame_indices": np.array([0, 4, 7], np.int32)}, "frame_indices are int64"),
        ({"frame_indices": np.array([[0, 4, 7]])}, "frame_indices are int64"),
        ({"frame_indices": np.zeros(0, np.int64)}, "a plan has frames"),
        ({"units": np.zeros((0, 1), np.int64)}, "a plan has frames"),
        ({"units": np.arange(3)}, r"units are int64 \(U, F\)"),
        ({"units": np.array([[0], [2], [1]])}, "units come in the order of time"),
        ({"units": np.array([[0, 2, 1]])}, "units come in the order of time"),
        ({"units": np.array([[0, 2], [1, 1]])}, "units come in the order of time"),
        ({"units": np.array([[0], [2]])}, "units show all that is decoded"),
        ({"units": np.array([[0], [1], [2], [3]])}, "units show all that is decoded"),
        ({"units": np.array([[-1], [0], [1], [2]])}, "units show all that is decoded"),
    ],
)
def test_a_plan_that_breaks_its_rules_cannot_be_made(changes, rule):
    with pytest.raises(AssertionError, match=rule):
        replace(THREE, **changes)


def test_frames_that_repeat_and_units_that_share_them_are_a_plan():
    assert plan_of([0, 0], [0, 3], [3, 3]).decoded_indices.tolist() == [0, 3]
