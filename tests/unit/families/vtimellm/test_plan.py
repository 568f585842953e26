"""VTimeLLM's frames, against what its reference returned and what its specification says."""

from dataclasses import replace

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.vtimellm.plan import VTimeLLMSpec, plan_video, sample_frames
from groundserve.options import AnswerOptions
from tests.unit.families.plans import label, load_vectors, video

SPEC = VTimeLLMSpec()
VECTORS = load_vectors("vtimellm_ref")
# What the reference makes of a range that we refuse: first and last ordinal.
REFUSED = {(-4.0, 2.5): (0, 59), (5.0, 5.0): (150, 150), (20.0, 10.0): (600, 300)}


def clip(vector):
    return tuple(vector["clip_seconds"]) if vector["clip_seconds"] else None


def planned(num_source_frames, average_fps=25.0, clip_seconds=None):
    options = AnswerOptions(clip_seconds=clip_seconds)
    return plan_video(video(num_source_frames, average_fps), options, SPEC)


@pytest.mark.parametrize("vector", [v for v in VECTORS if clip(v) not in REFUSED], ids=label)
def test_frames_are_the_recorded_ones(vector):
    plan = planned(vector["num_source_frames"], vector["average_fps"] or 25.0, clip(vector))
    assert plan.frame_indices.tolist() == vector["frame_indices"]
    assert plan.frame_indices.dtype == np.int64


@pytest.mark.parametrize("vector", [v for v in VECTORS if clip(v) in REFUSED], ids=label)
def test_the_rule_also_gives_the_recorded_frames_of_ranges_that_are_refused(vector):
    first, last = REFUSED[clip(vector)]
    assert sample_frames(first, last, num_frames=100).tolist() == vector["frame_indices"]
    with pytest.raises(InvalidRequestError, match="clip_seconds must be finite with 0 <= start"):
        AnswerOptions(clip_seconds=clip(vector))


def test_times_are_parts_of_the_whole_video_or_of_the_clip_cut_at_its_end():
    assert planned(250).time_range_seconds == (0, 10)
    assert planned(250, clip_seconds=(2, 7.5)).time_range_seconds == (2, 7.5)
    assert planned(250, clip_seconds=(2.0, 1e308)).time_range_seconds == (2, 10)
    assert planned(250, clip_seconds=(9.99, 10.5)).frame_indices.tolist() == [249] * 100


def test_times_of_a_video_with_a_gap_are_those_it_is_shown_at():
    gap = replace(video(250), pts_seconds=np.arange(250) / 25 + 5 * (np.arange(250) >= 100))
    assert plan_video(gap, AnswerOptions(), SPEC).time_range_seconds == (0, 15)


def test_a_clip_after_the_last_frame_by_the_rate_is_refused_where_a_gap_makes_the_video_longer():
    gap = replace(video(250), pts_seconds=np.arange(250) / 25 + 5 * (np.arange(250) >= 100))
    with pytest.raises(InvalidRequestError, match="before the video ends, at 10 s, got a start"):
        plan_video(gap, AnswerOptions(clip_seconds=(12, 15)), SPEC)


def test_a_clip_after_the_last_frame_by_time_is_refused_where_the_announced_rate_is_too_low():
    """By that rate, at which ordinals are counted, the video would go on."""
    slow = replace(video(250), average_fps=20.0)
    assert slow.duration_seconds < 11 < slow.num_source_frames / slow.average_fps
    with pytest.raises(InvalidRequestError, match=r"before the video ends, at 10\.01 s"):
        plan_video(slow, AnswerOptions(clip_seconds=(11, 12)), SPEC)
