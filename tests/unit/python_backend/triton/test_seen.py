"""What a head of text is told of the video behind FEATURES, which a caller may make up."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from groundserve.answers import GenerationInfo
from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError
from groundserve.families import get_text_family
from groundserve.families.plans import SeenVideo
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from python_backend.triton._stage_info import StageInfo

FACTS = {"grid": 3, "timing_ms": {"decode": 1.5}}
SEEN = SeenVideo(
    duration_seconds=10.5,
    num_visual_tokens=100,
    time_range_seconds=(0.5, 10.5),
    model_seconds=(0.0, 0.25),
)


def read(text: bytes) -> StageInfo:
    tensors = {"STAGE_INFO": np.array([text], np.object_)}
    return StageInfo.read(tensors, "STAGE_INFO", Deadline.after(60))


def with_seen(**changes) -> bytes:
    return json.dumps({"timing_ms": {}, "seen": {**asdict(SEEN), **changes}}).encode()


@pytest.mark.parametrize(
    "seen",
    [
        SEEN,
        SeenVideo(
            duration_seconds=0.1, num_visual_tokens=1, time_range_seconds=None, model_seconds=None
        ),
    ],
)
def test_the_head_is_told_what_the_plan_saw(seen):
    info = StageInfo(facts=FACTS, deadline=Deadline.after(60), seen=seen)
    told = read(info.to_tensor()[0])
    assert told.seen == seen
    assert told.facts == FACTS


def test_the_caller_is_told_of_the_answers_and_not_what_was_seen():
    generation = GenerationInfo(
        prefix_tokens=135,
        prompt_tokens=9,
        generated_tokens=4,
        seed=None,
        time_range_seconds=(0.0, 2.0),
        stop_reasons=("eos",),
        is_read=(True,),
    )
    info = StageInfo(facts=FACTS, deadline=Deadline.after(60), seen=SEEN)
    info = info.with_timing({"generate": 2.0}).with_generation(generation)
    assert info.seen == SEEN
    said = info.to_info()[0]
    assert GenerationInfo.from_json(said) == generation
    assert json.loads(said) == {
        "grid": 3,
        "timing_ms": {"decode": 1.5, "generate": 2.0},
        "generation": {
            "prefix_tokens": 135,
            "prompt_tokens": 9,
            "generated_tokens": 4,
            "seed": None,
            "time_range_seconds": [0.0, 2.0],
            "stop_reasons": ["eos"],
            "is_read": [True],
        },
    }


def test_a_head_of_frames_is_told_nothing():
    tensor = StageInfo(facts=FACTS, deadline=Deadline.after(60)).to_tensor()
    assert "seen" not in json.loads(tensor[0])
    assert read(tensor[0]).seen is None


@pytest.mark.parametrize(
    "text",
    [
        b'{"timing_ms": {}, "seen": []}',
        b'{"timing_ms": {}, "seen": {}}',
        with_seen(more=1),
        with_seen(duration_seconds="1"),
        with_seen(duration_seconds=None),
        with_seen(num_visual_tokens=True),
        with_seen(num_visual_tokens=1.0),
        with_seen(time_range_seconds=[1.0]),
        with_seen(time_range_seconds=[1.0, 2.0, 3.0]),
        with_seen(time_range_seconds=[1.0, None]),
        with_seen(time_range_seconds=5),
        with_seen(model_seconds=[True]),
        with_seen(model_seconds={"0": 1}),
    ],
)
def test_what_no_step_wrote_is_refused(text):
    with pytest.raises(InvalidRequestError, match="STAGE_INFO must be what the step before"):
        read(text)


def vtimellm_seen(**changes) -> SeenVideo:
    usual = {
        "duration_seconds": 10.0,
        "num_visual_tokens": 100,
        "time_range_seconds": (0.0, 10.0),
        "model_seconds": None,
    }
    return SeenVideo(**usual | changes)


@pytest.mark.parametrize("time_range_seconds", [(0.0, 10.0), (2.0, 2.5), (0.0, 0.0)])
def test_vtimellm_takes_parts_of_the_video(time_range_seconds):
    seen = vtimellm_seen(time_range_seconds=time_range_seconds)
    get_text_family("vtimellm").check_seen(seen, VTimeLLMSpec())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_visual_tokens": 99}, "num_visual_tokens must be 100, a token a frame, got 99"),
        ({"num_visual_tokens": -1}, "num_visual_tokens must be 100"),
        ({"time_range_seconds": None}, "time_range_seconds must be a part of the video, got None"),
        ({"time_range_seconds": (-1.0, 5.0)}, "must be a part of the video"),
        ({"time_range_seconds": (6.0, 5.0)}, r"got \(6.0, 5.0\) of 10.0 s"),
        ({"time_range_seconds": (0.0, 1e300)}, "must be a part of the video"),
        ({"duration_seconds": -1.0}, "must be a part of the video"),
    ],
)
def test_vtimellm_refuses_what_none_of_its_plans_says(changes, message):
    with pytest.raises(InvalidRequestError, match=message):
        get_text_family("vtimellm").check_seen(vtimellm_seen(**changes), VTimeLLMSpec())
