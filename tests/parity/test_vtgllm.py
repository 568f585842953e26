"""What VTG-LLM's reference recorded, through the pipeline: of a checkpoint and of its engines.

The fixture's run `fp32` is float32 throughout, but for the tables that the reference rounds.
"""

from __future__ import annotations

import numpy as np
import pytest

from engine_build import build
from groundserve import AnswerOptions, InvalidRequestError
from groundserve.runtime.deadline import Deadline
from python_backend.generate import Prefix, embed_prompt
from python_backend.meter import Counts
from python_backend.pipeline import Pipeline
from tests.support.reference import VTGLLM
from tests.support.vtgllm_cases import CASES, CONFIGS, RELEASED, parts_of

SECONDS = 120.0
# As the project holds its engines to: float32 both times, in another order of additions.
LOGIT_ERROR = {"checkpoint": 1e-4, "torch": 1e-4, "cpu": 3e-4}
CHAT = AnswerOptions(task="chat", max_new_tokens=6)
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


def first_logits(pipeline, extracted, case):
    """Return float32 (V,) behind the prompt."""
    head = pipeline.head
    (prompt,) = head.parse([case.query], case.options).of(extracted.seen)
    front, decoder = head.generator.front, head.generator.decoder
    arrays = head.family.front_arrays(extracted.seen, head.model)
    prefix = Prefix.compute(
        embed_prompt(prompt.prefix_ids, [front.embed_video(extracted.features, arrays)], front),
        room=len(prompt.suffix_ids),
        regime=0,
        decoder=decoder,
        front=front,
        deadline=Deadline.after(SECONDS),
    )
    return prefix.follow(prompt.suffix_ids)


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

    error = float(np.abs(first_logits(pipeline, extracted, case) - case.first_logits).max())
    assert error <= LOGIT_ERROR[way]

    result = pipeline.ask(case.path(clips), case.query, case.options)
    (answer,) = result.answers
    assert answer.prompt_token_ids.tolist() == case.input_ids
    # Two contenders change places where they lie closer than both may be off.
    assert min(case.gaps) > 2 * error
    assert answer.token_ids.tolist() == case.token_ids
    assert answer.text == case.text
    assert_moments(answer.moments, case.moments)
    assert answer.stop_reason == ("eos" if case.ended_by_eos else "length")
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


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        pytest.param([], AnswerOptions(), "must say what to ask with task moment", id="no_words"),
        pytest.param(
            "a", AnswerOptions(task="referring"), "the tasks moment, captions, high", id="task"
        ),
        pytest.param(
            "a", AnswerOptions(clip_seconds=(0, 1)), "has no option clip_seconds", id="option"
        ),
        pytest.param(
            "a", AnswerOptions(num_frames=97), "num_frames must be <= 96 for this", id="frames"
        ),
        pytest.param("<ImageHere>", CHAT, "must not contain the placeholder", id="placeholder"),
        pytest.param(
            "a", AnswerOptions(max_new_tokens=1500), "together more than 2048", id="endless"
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_before_a_frame_is_decoded(
    vtgllm_engines, clips, queries, options, message
):
    meter = Counts()
    with (
        Pipeline.open(vtgllm_engines(RELEASED), meter=meter) as pipeline,
        pytest.raises(InvalidRequestError, match=message),
    ):
        pipeline.ask(clips["bikes"], queries, options)
    assert meter["frames_decoded"] == meter["prefix_tokens"] == 0
