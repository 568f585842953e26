"""What VTG-LLM's stages are given beside frames, and what callers of inner models may not say."""

import json
from dataclasses import replace

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import SeenVideo
from groundserve.families.vtgllm import FAMILY
from groundserve.families.vtgllm.checkpoint import Checkpoint
from groundserve.families.vtgllm.plan import frame_texts
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from tests.reference import VTGLLM
from tests.unit.families.plans import video
from tests.vtgllm_cases import parts_of

CASES = json.loads((VTGLLM / "cases.json").read_text("utf-8"))["cases"]
SPEC = VTGLLMSpec()
NO_ROWS = VTGLLMSpec(num_time_rows=None)
WORDS = VTGLLMSpec(
    frame_text_before=[5, 95],
    frame_text_digits=list(range(104, 115)),
    frame_text_after=[97, 6],
)
SEEN = SeenVideo(
    duration_seconds=10.0,
    num_visual_tokens=256,
    time_range_seconds=None,
    model_seconds=(0.0, 0.5, 1.5, 2.5),
)


def times_of(case):
    return np.array([float(time) for time in case["timestamps"]])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_rows_of_the_table_of_seconds_are_the_recorded_ones(case):
    seen = replace(SEEN, model_seconds=tuple(times_of(case)))
    (rows,) = FAMILY.front_arrays(seen, SPEC)
    assert rows.tolist() == case["time_rows"]
    assert rows.dtype == np.float32
    assert FAMILY.front_arrays(seen, NO_ROWS) == ()


def test_a_half_is_rounded_to_the_even_second():
    assert FAMILY.front_arrays(SEEN, SPEC)[0].tolist() == [0, 0, 2, 2]


def test_a_front_is_given_seconds_where_it_has_a_table():
    (seconds,) = FAMILY.front_inputs(SPEC)
    assert (seconds.name, seconds.dims, seconds.max_dims) == ("SECONDS", (-1,), (96,))
    assert not seconds.of_units
    assert FAMILY.front_inputs(NO_ROWS) == ()


def test_the_sentence_of_each_frame_is_the_recorded_one():
    (case,) = [case for case in CASES if case.get("qformer_text")]
    spec = Checkpoint.open(VTGLLM, parts=parts_of(case["config"])).model_spec(pad_token_id=0)
    ids = frame_texts(times_of(case), spec)
    assert ids.tolist() == case["qformer_text"]["input_ids"]
    assert ids.dtype == np.float32


def test_the_vision_stage_is_given_a_sentence_of_each_frame_where_it_reads_one():
    (declared,) = FAMILY.plan_inputs(WORDS)
    assert (declared.name, declared.dims, declared.of_units) == ("FRAME_TEXT_IDS", (10,), True)
    plan = FAMILY.plan(video(1000), AnswerOptions(), WORDS)
    assert plan.inputs[declared.name].shape == (96, 10)
    assert plan.inputs[declared.name][-1].tolist() == [
        *(5, 95, 104, 104, 107, 113, 114, 110, 97, 6)  # 39.6
    ]
    assert FAMILY.plan_inputs(SPEC) == ()
    assert not FAMILY.plan(video(1000), AnswerOptions(), SPEC).inputs


def test_what_a_plan_says_is_accepted():
    for spec in (SPEC, NO_ROWS, VTGLLMSpec(num_slots=None)):
        for num_frames in (1, 41, 5000):
            plan = FAMILY.plan(video(num_frames), AnswerOptions(), spec)
            FAMILY.check_seen(plan.seen, spec)
            FAMILY.check_features((len(plan.units), 32, 768), spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_seconds": None}, "a time for each of 1 to 96 frames, got 0"),
        ({"model_seconds": (0.0,) * 97}, "a time for each of 1 to 96 frames, got 97"),
        ({"model_seconds": (0.0, float("nan"))}, "must be finite, >= 0 and never fall"),
        ({"model_seconds": (float("nan"),)}, "must be finite, >= 0 and never fall"),
        ({"model_seconds": (0.0, float("inf"))}, "must be finite, >= 0 and never fall"),
        ({"model_seconds": (-1.0,)}, "must be finite, >= 0 and never fall"),
        ({"model_seconds": (1.0, 0.5)}, "must be finite, >= 0 and never fall"),
        ({"model_seconds": (8191.5,)}, "must be at most 8191 s, the last that the model knows"),
        ({"num_visual_tokens": 255}, "num_visual_tokens must be 256 for 4 frames, got 255"),
    ],
)
def test_what_no_plan_says_is_refused(changes, message):
    with pytest.raises(InvalidRequestError, match=message):
        FAMILY.check_seen(replace(SEEN, **changes), SPEC)


def test_a_model_without_a_table_knows_any_second():
    FAMILY.check_seen(replace(SEEN, model_seconds=(1e6,)), NO_ROWS)


def test_without_slots_each_vector_is_a_token():
    spec = VTGLLMSpec(num_slots=None)
    FAMILY.check_seen(replace(SEEN, num_visual_tokens=4 * 32), spec)
    with pytest.raises(InvalidRequestError, match="must be 128 for 4 frames, got 256"):
        FAMILY.check_seen(SEEN, spec)


@pytest.mark.parametrize("shape", [(0, 32, 768), (97, 32, 768), (4, 31, 768), (4, 768)])
def test_features_that_no_vision_stage_gives_are_refused(shape):
    with pytest.raises(InvalidRequestError, match="FEATURES must"):
        FAMILY.check_features(shape, SPEC)


def test_features_past_a_servers_ceiling_are_refused():
    with pytest.raises(InvalidRequestError, match=r"of 1 to 8 frames, got \(9, 32, 768\)"):
        FAMILY.check_features((9, 32, 768), SPEC, Limits(max_num_frames=8))
