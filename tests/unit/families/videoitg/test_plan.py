"""Which frames a request asks for, and what a checkpoint's budget does to that."""

from dataclasses import replace

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.plan import VideoITGSpec, plan_video
from groundserve.limits import Limits
from groundserve.media import VideoIndex
from groundserve.options import ScoreOptions

RELEASED = VideoITGSpec(
    image_size=384,
    side=27,
    vision_hidden_size=1152,
    vision_token_num=16_384,
    max_tokens=None,
    pad_token_id=0,
)
DIGITS = replace(RELEASED, vision_token_num=432, side=6)


def index(seconds: int) -> VideoIndex:
    num_frames = seconds * 10
    return VideoIndex(
        average_fps=10.0,
        pts_seconds=np.arange(num_frames) / 10,
        is_key=np.arange(num_frames) % 50 == 0,
        width=64,
        height=48,
        codec_name="h264",
        container_name="mp4",
    )


@pytest.mark.parametrize(
    ("model", "limits", "seconds", "num_frames", "num_sampled"),
    [
        pytest.param(RELEASED, Limits(), 45 * 60, 512, 512, id="the published default"),
        pytest.param(RELEASED, Limits(), 40, 512, 40, id="a short video"),
        pytest.param(DIGITS, Limits(), 45 * 60, 432, 432, id="a small budget"),
        pytest.param(RELEASED, Limits(max_num_frames=100), 45 * 60, 100, 100, id="a low ceiling"),
    ],
)
def test_the_default_number_of_frames_is_what_fits(model, limits, seconds, num_frames, num_sampled):
    plan = plan_video(index(seconds), ScoreOptions(), model, limits)
    assert plan.num_frames == num_frames
    assert len(plan.frame_indices) == num_sampled
    assert plan.num_visual_tokens <= model.vision_token_num


def test_a_number_that_does_not_fit_is_refused_by_its_name_and_bound():
    with pytest.raises(InvalidRequestError) as error:
        plan_video(index(450), ScoreOptions(num_frames=512), DIGITS, Limits())
    assert str(error.value) == (
        "num_frames must be at most 432, this checkpoint's budget of visual tokens, for a video "
        "that gives 450 frames; got 512. Without num_frames, as many are taken as fit"
    )


def test_a_number_past_the_budget_is_kept_where_the_video_gives_fewer_frames():
    plan = plan_video(index(400), ScoreOptions(num_frames=512), DIGITS, Limits())
    assert len(plan.frame_indices) == 400
