"""Grounded-VideoLLM's frames, against what its reference returned and its specification says."""

import numpy as np
import pytest

from groundserve.errors import UnsupportedError
from groundserve.families.grounded_videollm import FAMILY
from groundserve.families.grounded_videollm.plan import plan_video
from groundserve.families.grounded_videollm.spec import LLAMA_3, PHI_3_5
from groundserve.options import AnswerOptions
from tests.unit.families.plans import label, load_vectors, video

VECTORS = load_vectors("grounded_videollm_ref")


def planned(num_source_frames, average_fps=25.0):
    return plan_video(video(num_source_frames, average_fps), AnswerOptions(), PHI_3_5)


@pytest.mark.parametrize("vector", VECTORS, ids=label)
def test_frames_are_the_recorded_ones(vector):
    plan = planned(vector["num_source_frames"], vector.get("average_fps", 25.0))
    assert plan.frame_indices.tolist() == vector["frame_indices"]
    assert plan.frame_indices.dtype == np.int64


@pytest.mark.parametrize("vector", [v for v in VECTORS if "average_fps" in v], ids=label)
def test_key_frames_and_time_base_are_the_recorded_ones(vector):
    plan = planned(vector["num_source_frames"], vector["average_fps"])
    assert plan.time_range_seconds == (0, vector["duration_seconds"])
    temporal, spatial = FAMILY.streams(PHI_3_5)
    ordinals = plan.decoded_indices[plan.units]
    keys = np.array(vector["frame_indices"])[vector["key_frame_positions"]]
    assert ordinals[:, list(spatial.frames)].tolist() == keys[:, np.newaxis].tolist()
    assert ordinals[:, list(temporal.frames)].ravel().tolist() == vector["frame_indices"]
    places = np.arange(96).reshape(plan.units.shape)
    assert places[:, list(spatial.frames)].ravel().tolist() == vector["key_frame_positions"]


def test_every_recorded_vector_is_compared():
    assert sum(len(vector["names"]) for vector in VECTORS) == 31


# spec/grounded_videollm.md 1.1, golden indices.
@pytest.mark.parametrize(
    ("num_source_frames", "first", "last"),
    [
        (1000, [4, 14, 25, 35, 46, 56, 66, 77], [962, 973, 983, 994]),
        (5000, [25, 77, 129, 181, 233, 285, 337, 389], [4816, 4868, 4920, 4973]),
        (96, list(range(8)), [92, 93, 94, 95]),
        (97, list(range(8)), [92, 93, 94, 95]),
        (50, list(range(8)), [49, 49, 49, 49]),
    ],
)
def test_frames_are_the_specified_ones(num_source_frames, first, last):
    frame_indices = planned(num_source_frames).frame_indices.tolist()
    assert (frame_indices[:8], frame_indices[-4:]) == (first, last)


def test_bounds_are_of_doubles_and_not_of_quotients():
    """As the reference computes them; 54 * 208 / 96 is 117, and its double is less."""
    assert int(np.linspace(0, 208, 97)[54]) == 116
    assert planned(208).frame_indices[53] == 114  # of 114 to 115, not to 116


def test_any_video_is_sampled_as_plain_arithmetic_does():
    random = np.random.default_rng(0)
    for _ in range(300):
        num_source_frames = int(random.integers(1, 10 ** random.integers(1, 7)))
        intervals = min(96, num_source_frames)
        step = num_source_frames / intervals
        bounds = [int(place * step) for place in range(intervals)] + [num_source_frames]
        middles = [(bounds[k] + bounds[k + 1] - 1) // 2 for k in range(intervals)]
        expected = middles + middles[-1:] * (96 - intervals)
        assert planned(num_source_frames).frame_indices.tolist() == expected


def test_streams_are_two_sizes_of_segments_and_of_their_fifth_frames():
    temporal, spatial = FAMILY.streams(PHI_3_5)
    assert (temporal.size, temporal.frames) == (224, tuple(range(8)))
    assert (spatial.size, spatial.frames) == (336, (4,))
    assert temporal.resize == spatial.resize == "short_side"
    assert len({temporal.name, spatial.name}) == 2


@pytest.mark.parametrize(("spec", "num_visual_tokens"), [(PHI_3_5, 3420), (LLAMA_3, 2316)])
def test_the_decoder_sees_as_many_tokens_of_every_video(spec, num_visual_tokens):
    assert spec.max_feature_tokens == num_visual_tokens
    for num_source_frames in (1, 1000):
        plan = plan_video(video(num_source_frames), AnswerOptions(), spec)
        assert plan.num_visual_tokens == num_visual_tokens


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("num_frames", AnswerOptions(num_frames=96)),
        ("clip_seconds", AnswerOptions(clip_seconds=(0, 1))),
    ],
)
def test_options_that_the_family_lacks_are_refused_by_name(name, options):
    with pytest.raises(UnsupportedError, match=f"grounded_videollm has no option {name}"):
        plan_video(video(250), options, PHI_3_5)
