from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from engine_build.triton.__main__ import REFERENCE_MODEL
from groundserve.errors import MediaError
from groundserve.families import get_family, get_frames_family
from groundserve.families.default_video import default_plan, short_plan
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.options import AnswerOptions


@pytest.mark.parametrize(
    ("budget", "num_units", "tokens_a_unit"),
    [
        pytest.param(16_384, 512, 25, id="released"),
        pytest.param(100, 100, 1, id="fewer_tokens_than_frames"),
        pytest.param(10**9, 512, 27**2, id="every_patch"),
    ],
)
def test_default_plan_has_the_default_number_of_frames(budget, num_units, tokens_a_unit):
    spec = replace(REFERENCE_MODEL, vision_token_num=budget)
    plan = default_plan(get_frames_family("videoitg"), spec)
    assert plan.units.shape == (num_units, 1)
    assert plan.num_visual_tokens == num_units * tokens_a_unit
    assert plan.inputs["POOL"].shape == (np.sqrt(tokens_a_unit), 27)


def test_short_plan_has_every_frame_of_its_video():
    for num_frames in (1, 4, 64):
        plan = short_plan(get_frames_family("videoitg"), REFERENCE_MODEL, num_frames)
        assert plan.frame_indices.tolist() == list(range(num_frames))
        assert len(plan.units) == num_frames


def test_plans_of_a_family_of_text():
    """Its options are those of its head, and it takes any video."""
    family = SimpleNamespace(head="text", plan=lambda index, options, spec: (index, options))
    index, options = short_plan(family, None, 5)
    assert (index.num_source_frames, options) == (5, AnswerOptions())
    assert default_plan(family, None)[1] == AnswerOptions()


@pytest.mark.parametrize(("num_time_rows", "seconds"), [(None, 3600), (8192, 3600), (256, 225)])
def test_default_plan_is_as_long_as_the_family_takes(num_time_rows, seconds):
    spec = VTGLLMSpec(num_time_rows=num_time_rows)
    plan = default_plan(get_family("vtgllm"), spec)
    assert plan.index.num_source_frames == seconds * 30
    assert len(plan.units) == 96


def test_default_plan_of_a_family_that_takes_no_video_says_why():
    def refuse(index, options, spec):
        raise MediaError(f"no video, not of {index.num_source_frames} frames")

    with pytest.raises(MediaError, match="not of 30 frames"):
        default_plan(SimpleNamespace(head="text", plan=refuse), None)
