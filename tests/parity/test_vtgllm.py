"""What VTG-LLM's reference recorded, through the pipeline: of a checkpoint and of its engines.

The fixture's run `fp32` is float32 throughout, but for the tables that the reference rounds.
"""

from __future__ import annotations

import numpy as np
import pytest

from engine_build import build
from groundserve import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.pipeline import Pipeline
from tests.support.prefixes import SECONDS, video_prefix
from tests.support.reference import VTGLLM
from tests.support.vtgllm_cases import CASES, CONFIGS, RELEASED, parts_of

# As the project holds its engines to: float32 both times, in another order of additions.
LOGIT_ERROR = {"checkpoint": 1e-4, "torch": 1e-4, "cpu": 3e-4}
SLOTS = 256
COPIED = (RELEASED, "text_input")
"""What there are directories of profile `torch` of: copies of what is opened else."""


@pytest.fixture(scope="module")
def way(request):
    return request.param


@pytest.fixture(scope="module")
def pipelines(way, vtgllm_engines, tmp_path_factory):
    """By configuration."""
    opened = {}
    for config in COPIED if way == "torch" else CONFIGS:
        if way == "checkpoint":
            opened[config] = Pipeline.from_checkpoint(VTGLLM, parts=parts_of(config))
        elif way == "cpu":
            opened[config] = Pipeline.open(vtgllm_engines(config))
        else:
            out = tmp_path_factory.mktemp("torch") / config
            build(VTGLLM, out, profile="torch", parts=parts_of(config))
            opened[config] = Pipeline.open(out)
    yield opened
    for pipeline in opened.values():
        pipeline.close()


@pytest.fixture
def pipeline(vtgllm_engines):
    with Pipeline.open(vtgllm_engines(RELEASED)) as opened:
        yield opened


def assert_moments(moments, recorded):
    found = [
        {
            "timestamp": [one.start_seconds, one.end_seconds],
            **({"text": one.text} if one.text else {}),
            **({} if one.score is None else {"score": one.score}),
        }
        for one in moments
    ]
    assert found == recorded


@pytest.mark.parametrize(
    ("way", "case"),
    [
        pytest.param(way, case, id=f"{way}-{case.name}")
        for way in LOGIT_ERROR
        for case in CASES
        if way != "torch" or case.config in COPIED
    ],
    indirect=["way"],
)
def test_every_stage_is_the_references(case, way, pipelines, clips):
    pipeline = pipelines[case.config]
    extracted = pipeline.features(case.path(clips), case.options, deadline=Deadline.after(SECONDS))
    assert extracted.frame_indices.tolist() == case.frame_indices
    assert list(extracted.seen.model_seconds) == case.seconds

    prefix, prompt = video_prefix(pipeline.head, case, extracted.features, extracted.seen)
    error = float(np.abs(prefix.follow(prompt.suffix_ids) - case.first_logits).max())
    assert error <= LOGIT_ERROR[way]

    result = pipeline.ask(case.path(clips), case.query, case.options)
    (answer,) = result.answers
    assert answer.prompt_token_ids.tolist() == case.input_ids
    # Two contenders change places where they lie closer than both may be off.
    assert min(case.gaps) > 2 * error
    assert answer.token_ids.tolist() == case.token_ids
    assert answer.text == case.text
    assert_moments(answer.moments, case.moments)
    assert answer.stop_reason == ("eos" if case.stopped_by_eos else "length")
    assert result.to_json()["family"] == "vtgllm"


@pytest.mark.parametrize("num_frames", [1, 7])
def test_a_few_frames_have_more_slots_than_vectors(pipeline, clips, num_frames):
    options = AnswerOptions(task="chat", num_frames=num_frames, max_new_tokens=2)
    result = pipeline.ask(clips["bikes"], "What is shown?", options)
    assert len(result.frame_indices) == num_frames
    assert num_frames * 32 < SLOTS
    (answer,) = result.answers
    spelled = answer.prompt_token_ids[answer.prompt_token_ids > 600]
    assert len(spelled) == 6 * num_frames
    total = result.generation.prefix_tokens + result.generation.prompt_tokens
    assert total == len(answer.prompt_token_ids) - 1 + SLOTS
