"""VTG-LLM's frames and times, against what its reference returned and its specification says."""

from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError, MediaError, UnsupportedError
from groundserve.families.vtgllm import FAMILY
from groundserve.families.vtgllm.plan import plan_video, sample_frames, told_seconds
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from tests.unit.families.plans import label, load_vectors, video

SPEC = VTGLLMSpec()
NO_TIME_ROWS = replace(SPEC, num_time_rows=None)
VECTORS = load_vectors("vtgllm_ref")


def planned(num_source_frames, average_fps=25.0, *, num_frames=None, spec=SPEC, limits=None):
    index = video(num_source_frames, average_fps)
    return plan_video(index, AnswerOptions(num_frames=num_frames), spec, limits or Limits())


@pytest.mark.parametrize("vector", VECTORS, ids=label)
def test_frames_and_times_are_the_recorded_ones(vector):
    plan = planned(
        vector["num_source_frames"],
        vector["average_fps"],
        num_frames=vector["num_frames"],
        spec=NO_TIME_ROWS,
    )
    assert plan.frame_indices.tolist() == vector["frame_indices"]
    assert plan.frame_indices.dtype == np.int64
    seconds = plan.model_seconds.tolist()
    assert [str(time) for time in seconds] == vector["timestamps"]
    assert [round(time) for time in seconds] == vector["time_rows"]


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if "differs_from_integer_floor" in v], ids=label
)
def test_exact_division_would_give_other_frames_where_recorded(vector):
    num_source_frames, num_frames = vector["num_source_frames"], vector["num_frames"]
    frame_indices = sample_frames(num_source_frames, num_frames=num_frames)
    exact = np.arange(len(frame_indices)) * num_source_frames // len(frame_indices)
    differs = np.flatnonzero(frame_indices != exact)
    assert differs.tolist() == vector["differs_from_integer_floor"]


def test_every_recorded_vector_is_compared():
    assert sum(len(vector["names"]) for vector in VECTORS) == 36
    assert [v["num_source_frames"] for v in VECTORS if v.get("differs_from_integer_floor")] == [
        59968
    ]


def test_a_product_of_doubles_is_cut_and_not_the_quotient():
    """spec/vtgllm.md 1.2."""
    assert planned(59968, 24.0).frame_indices[51] == 31857


def test_lengths_where_doubles_differ_are_as_many_as_specified():
    """spec/vtgllm.md 1.2: 567 lengths up to 60,000, and always 96 frames, as `arange` gives."""
    differing = 0
    for num_source_frames in range(96, 60_001):
        frame_indices = sample_frames(num_source_frames, num_frames=96)
        differing += bool((frame_indices != np.arange(96) * num_source_frames // 96).any())
    assert differing == 567


def test_any_video_is_sampled_as_numpy_arange_does():
    random = np.random.default_rng(0)
    for _ in range(300):
        num_source_frames = int(random.integers(1, 10 ** random.integers(1, 7)))
        num_frames = min(int(random.integers(1, 97)), num_source_frames)
        multiples = np.arange(0, num_source_frames, num_source_frames / num_frames)
        expected = multiples[:num_frames].astype(np.int64)
        got = sample_frames(num_source_frames, num_frames=num_frames)
        assert got.tolist() == expected.tolist()
        assert (np.diff(got) > 0).all()


@pytest.mark.parametrize(("num_source_frames", "num_frames"), [(99, 95), (17, 7), (98, 90)])
def test_there_is_no_frame_too_many_where_arange_has_one(num_source_frames, num_frames):
    """Its last multiple is N - 1 or N, which the file does not have."""
    assert len(np.arange(0, num_source_frames, num_source_frames / num_frames)) == num_frames + 1
    frame_indices = sample_frames(num_source_frames, num_frames=num_frames)
    assert len(frame_indices) == num_frames
    assert frame_indices[-1] < num_source_frames - 1


def test_times_are_rounded_from_the_exact_value_of_the_double():
    ordinals = np.arange(20_000)
    for average_fps in (20.0, 25.0, 30_000 / 1001, 59.94, 7.5):
        exact = [Decimal(ordinal / average_fps) for ordinal in ordinals.tolist()]
        expected = [float(time.quantize(Decimal("0.1"), ROUND_HALF_EVEN)) for time in exact]
        assert told_seconds(ordinals, average_fps).tolist() == expected
    # 0.35 is a little less than its digits say; times ten it is 3.5.
    assert told_seconds(np.array([7]), 20.0).tolist() == [0.3]
    assert np.round(0.35, 1) == 0.4


def test_the_decoder_sees_as_many_tokens_of_every_video():
    assert planned(41).num_visual_tokens == planned(1000).num_visual_tokens == 256
    assert len(planned(41).frame_indices) == 41
    assert planned(1000).time_range_seconds is None  # answers name seconds
    assert SPEC.max_feature_tokens == 96 * 32


def test_the_stream_is_the_decoders_own_scaling():
    (stream,) = FAMILY.streams(SPEC)
    assert (stream.size, stream.resize, stream.frames) == (224, "bilinear", (0,))


@pytest.mark.parametrize(
    ("average_fps", "accepted"),
    [(1 / 8191.4, True), (1 / 8191.5, False), (1 / 8192, False), (5e-324, False)],
)
def test_a_time_past_the_last_row_is_refused(average_fps, accepted):
    index = replace(video(2), average_fps=average_fps)
    if accepted:
        assert plan_video(index, AnswerOptions(), SPEC).model_seconds[-1] == 8191.4
        return
    with pytest.raises(MediaError, match="vtgllm knows seconds 0 to 8191, and this video's last"):
        plan_video(index, AnswerOptions(), SPEC)


def test_any_time_is_accepted_by_a_model_without_rows_of_seconds():
    assert planned(2, 1e-6, spec=NO_TIME_ROWS).model_seconds.tolist() == [0, 1e6]


@pytest.mark.parametrize(
    ("num_frames", "most", "message"),
    [
        (97, 1024, "num_frames must be <= 96 for this model, got 97"),
        (65, 64, "num_frames must be <= 64 on this server, got 65"),
        (10**5000, 64, "num_frames must be <= 64 on this server, got a int"),
    ],
    ids=["model", "server", "thousands of digits"],
)
def test_too_many_frames_are_refused_by_whose_ceiling_it_is(num_frames, most, message):
    with pytest.raises(InvalidRequestError) as error:
        planned(250, num_frames=num_frames, limits=Limits(max_num_frames=most))
    assert str(error.value) == message


def test_a_lower_ceiling_of_the_server_holds_where_no_number_is_given():
    plan = planned(250, limits=Limits(max_num_frames=64))
    assert plan.num_frames == len(plan.frame_indices) == 64


def test_a_clip_is_refused_by_name():
    with pytest.raises(UnsupportedError, match="vtgllm has no option clip_seconds; leave it out"):
        plan_video(video(250), AnswerOptions(clip_seconds=(0, 1)), SPEC)
