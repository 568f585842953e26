"""What VTimeLLM's reference recorded, through the pipeline: of a checkpoint and of its engines.

The fixture's run `fp32` is float32 throughout, with adapters merged without rounding.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine_build import build
from groundserve import AnswerOptions, InvalidRequestError
from groundserve.runtime.deadline import Deadline
from python_backend.arrays import to_host
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.meter import Counts
from python_backend.pipeline import Pipeline
from tests.support.answer_cases import CASES, CHECKPOINTS, FOLDER, MODELS
from tests.support.prefixes import SECONDS, video_prefix

FEATURE_ERROR = 1e-4
# Float32 both times, in another order of additions. ONNX Runtime's attention is a kernel of its
# own, and there are two layers.
LOGIT_ERROR = {"checkpoint": 1e-4, "torch": 1e-4, "cpu": 3e-4}
RECORDED = {case["name"]: case for case in json.loads((FOLDER / "cases.json").read_text())["cases"]}
FIRST_LOGITS = dict(zip(RECORDED, np.load(FOLDER / "prefill_logits_fp32.npy"), strict=True))
EIGHT = [f"Which frames show the number {number}?" for number in range(8)]
CHAT = AnswerOptions(task="chat", max_new_tokens=6)


@pytest.fixture(scope="module")
def torch_engines(tmp_path_factory):
    out = tmp_path_factory.mktemp("torch") / "engines"
    build(CHECKPOINTS, out, profile="torch", parts=MODELS["stage3"])
    return out


@pytest.fixture(scope="module", params=["checkpoint", "torch", "cpu"])
def way(request):
    return request.param


@pytest.fixture(scope="module")
def pipelines(way, answer_engines, torch_engines):
    """By model; the directory of profile `torch` has one alone, a copy of what is opened else."""
    if way == "checkpoint":
        opened = {
            model: Pipeline.from_checkpoint(CHECKPOINTS, parts=parts)
            for model, parts in MODELS.items()
        }
    elif way == "torch":
        opened = {"stage3": Pipeline.open(torch_engines)}
    else:
        opened = {model: Pipeline.open(answer_engines(model)) for model in MODELS}
    yield opened
    for pipeline in opened.values():
        pipeline.close()


@pytest.fixture
def pipeline(answer_engines):
    with Pipeline.open(answer_engines("stage3")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("way", "case"),
    [
        pytest.param(way, case, id=f"{way}-{case.name}")
        for way in LOGIT_ERROR
        for case in CASES
        # Of the directory of profile `torch` there is one model alone.
        if way != "torch" or case.model == "stage3"
    ],
    indirect=["way"],
)
def test_every_stage_is_the_references(case, way, pipelines, clips):
    pipeline, recorded = pipelines[case.model], RECORDED[case.name]
    extracted = pipeline.features(case.path(clips), case.options, deadline=Deadline.after(SECONDS))
    assert extracted.frame_indices.tolist() == case.frame_indices
    assert extracted.info.num_source_frames == recorded["num_source_frames"]
    (key,) = recorded["features"]
    features = np.load(FOLDER / "features" / f"{key}.npy")
    found = to_host(extracted.features)[:, 0]
    np.testing.assert_allclose(found, features, atol=FEATURE_ERROR, rtol=0)

    prefix, prompt = video_prefix(pipeline.head, case, extracted.features, extracted.seen)
    logits, bound = prefix.follow(prompt.suffix_ids), LOGIT_ERROR[way]
    np.testing.assert_allclose(logits, FIRST_LOGITS[case.name], atol=bound, rtol=0)

    result = pipeline.ask(case.path(clips), case.query, case.options)
    (answer,) = result.answers
    assert answer.prompt_token_ids.tolist() == case.input_ids
    # Two contenders change places where they lie closer than both may be off.
    gaps = recorded["runs"]["fp32"]["greedy_top2_gaps"]
    assert min(gaps) > 2 * bound
    assert answer.token_ids.tolist() == case.token_ids
    assert answer.text == case.text
    assert answer.stop_reason == ("eos" if case.stopped_by_eos else "length")
    assert result.to_json()["family"] == "vtimellm"


def test_eight_questions_cost_one_decode_one_vision_pass_and_one_prefix(
    answer_engines, clips, tmp_path
):
    meter = Counts()
    cache = FeatureCache(CacheConfig(directory=tmp_path), meter=meter)
    with Pipeline.open(answer_engines("stage3"), cache=cache, meter=meter) as pipeline:
        result = pipeline.ask(clips["carphone_pristine"], EIGHT, CHAT)
        assert meter["frames_decoded"] == meter["vision_frames"] == 100
        # The system text up to the video, and the video's block.
        num_before = result.answers[0].prompt_token_ids.tolist().index(-200)
        assert meter["prefix_tokens"] == result.generation.prefix_tokens == num_before + 100
        asked = meter["prompt_tokens"]
        assert asked == result.generation.prompt_tokens
        assert asked == sum(len(one.prompt_token_ids) - num_before - 1 for one in result.answers)
        assert meter["generated_tokens"] == sum(len(one.token_ids) for one in result.answers)
        # One after another: the video is found in the cache, and the answers are the same.
        for query, together in zip(EIGHT, result.answers, strict=True):
            (alone,) = pipeline.ask(clips["carphone_pristine"], query, CHAT).answers
            assert alone.to_json() == together.to_json()
        assert meter["frames_decoded"] == meter["vision_frames"] == 100
        assert meter["prefix_tokens"] == 9 * (num_before + 100)
        assert meter["prompt_tokens"] == 2 * asked


def test_an_answer_says_which_part_of_the_video_was_seen(pipeline, clips):
    options = AnswerOptions(task="captions", clip_seconds=(0.5, 99), max_new_tokens=4)
    result = pipeline.ask(clips["bikes"], options=options)
    assert result.generation.time_range_seconds == (0.5, result.info.duration_seconds)
    assert result.frame_indices[0] == 12
    assert result.frame_indices[-1] == result.info.num_source_frames - 1
    (answer,) = result.answers
    assert (answer.query, answer.task, answer.stop_reason) == ("", "captions", "length")
    assert (answer.moments, result.generation.is_read) == ((), (False,))
    said = result.to_json()
    assert {"generate", "decode", "encode", "total"} <= said["timing_ms"].keys()
    assert said["engine"]["family"] == "vtimellm"
    json.dumps(said, allow_nan=False)


def test_draws_repeat_with_the_seed_that_an_answer_names(pipeline, clips):
    drawn = AnswerOptions(task="chat", max_new_tokens=12, temperature=5.0)
    first = pipeline.ask(clips["carphone_pristine"], "What is it?", drawn)
    seed = first.generation.seed
    again = AnswerOptions(task="chat", max_new_tokens=12, temperature=5.0, seed=seed)
    second = pipeline.ask(clips["carphone_pristine"], "What is it?", again)
    assert second.answers[0].to_json() == first.answers[0].to_json()
    assert second.generation.seed == seed
    assert pipeline.ask(clips["carphone_pristine"], "a", CHAT).generation.seed is None


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        pytest.param([], AnswerOptions(), "must say what to ask with task moment", id="no_words"),
        pytest.param(
            "a", AnswerOptions(task="summary"), "the tasks moment, captions, chat", id="task"
        ),
        pytest.param("a", AnswerOptions(num_frames=8), "has no option num_frames", id="option"),
        pytest.param("<video>", CHAT, "must not contain the placeholder", id="placeholder"),
        pytest.param(
            "a", AnswerOptions(max_new_tokens=4000), "together more than 4096", id="endless"
        ),
        pytest.param("a", AnswerOptions(max_new_tokens=5000), "must be <= 4096 on this", id="more"),
        pytest.param(["a"] * 33, CHAT, r"1\.\.32 questions, got 33", id="many"),
    ],
)
def test_what_cannot_be_answered_is_refused_before_a_frame_is_decoded(
    answer_engines, clips, queries, options, message
):
    meter = Counts()
    with (
        Pipeline.open(answer_engines("stage3"), meter=meter) as pipeline,
        pytest.raises(InvalidRequestError, match=message),
    ):
        pipeline.ask(clips["bikes"], queries, options)
    assert meter["frames_decoded"] == meter["prefix_tokens"] == 0
