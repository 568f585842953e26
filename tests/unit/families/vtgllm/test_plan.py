"""VTG-LLM's frames and times, against what its reference returned and its specification says."""

from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError, MediaError
from groundserve.families.vtgllm.plan import VTGLLMSpec, plan_video, told_seconds
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


def test_times_are_rounded_from_the_exact_value_of_the_double():
    ordinals = np.arange(20_000)
    for average_fps in (20.0, 25.0, 30_000 / 1001, 59.94, 7.5):
        exact = [Decimal(ordinal / average_fps) for ordinal in ordinals.tolist()]
        expected = [float(time.quantize(Decimal("0.1"), ROUND_HALF_EVEN)) for time in exact]
        assert told_seconds(ordinals, average_fps).tolist() == expected
    # 0.35 is a little less than its digits say; times ten it is 3.5.
    assert told_seconds(np.array([7]), 20.0).tolist() == [0.3]
    assert np.round(0.35, 1) == 0.4


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
