"""What VTG-LLM's stages are given beside frames, and what callers of inner models may not say."""

import json
from dataclasses import replace

import numpy as np
import pytest

from groundserve.families.plans import SeenVideo
from groundserve.families.vtgllm import FAMILY
from groundserve.families.vtgllm.checkpoint import Checkpoint
from groundserve.families.vtgllm.plan import frame_texts
from groundserve.families.vtgllm.spec import VTGLLMSpec
from tests.reference import VTGLLM
from tests.vtgllm_cases import parts_of

CASES = json.loads((VTGLLM / "cases.json").read_text("utf-8"))["cases"]
SPEC = VTGLLMSpec()
NO_ROWS = VTGLLMSpec(num_time_rows=None)
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


def test_the_sentence_of_each_frame_is_the_recorded_one():
    (case,) = [case for case in CASES if case.get("qformer_text")]
    spec = Checkpoint.open(VTGLLM, parts=parts_of(case["config"])).model_spec(pad_token_id=0)
    ids = frame_texts(times_of(case), spec)
    assert ids.tolist() == case["qformer_text"]["input_ids"]
    assert ids.dtype == np.float32
