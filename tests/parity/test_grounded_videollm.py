"""What Grounded-VideoLLM's reference recorded in float32, of a checkpoint and of its engines."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engine_build import build
from groundserve import AnswerOptions
from groundserve.engines.manifest import VISION_ONNX_NAME
from groundserve.families.plans import SeenVideo
from groundserve.limits import Limits
from groundserve.media._resize import resize_short_side
from groundserve.runtime.deadline import Deadline
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.meter import Counts
from python_backend.pipeline import Pipeline
from tests.support.grounded_cases import (
    CASES,
    FOLDER,
    FORMULA_CASES,
    MAX_NEW_TOKENS,
    PARTS,
    WEIGHTS,
    GroundedCase,
    formula_frames,
)
from tests.support.prefixes import SECONDS, video_prefix

# Float32 both times, in another order of additions; logits have a deviation of about 3.
LOGIT_ERROR = 1e-3
NUM_POSITIONS = {"phi3.5": 3420, "llama3": 2316}
"""Of the video's block."""
EIGHT = [f"Who holds the number {number}?" for number in range(8)]
WAYS = [
    pytest.param(way, case, id=f"{way}-{case.name}")
    for way in ("checkpoint", "torch", "cpu")
    for case in CASES
    # The directory of profile `torch` has a copy of what is opened else: one case of each model.
    if way != "torch" or case.task == "referring"
]


@pytest.fixture(scope="module")
def opened(grounded_engines, tmp_path_factory):
    """Pipelines by way and model, which keep the features of a video."""
    pipelines: dict[tuple[str, str], Pipeline] = {}

    def make(way: str, model: str) -> Pipeline:
        config = CacheConfig(directory=tmp_path_factory.mktemp("cache"))
        cache = FeatureCache(config, meter=Counts())
        if way == "checkpoint":
            return Pipeline.from_checkpoint(WEIGHTS, parts=PARTS[model], cache=cache)
        if way == "cpu":
            return Pipeline.open(grounded_engines(model), cache=cache)
        out = tmp_path_factory.mktemp("torch") / "engines"
        build(WEIGHTS, out, profile="torch", parts=PARTS[model])
        return Pipeline.open(out, cache=cache)

    def get(way: str, model: str) -> Pipeline:
        if (way, model) not in pipelines:
            pipelines[way, model] = make(way, model)
        return pipelines[way, model]

    yield get
    for pipeline in pipelines.values():
        pipeline.close()


def followed(pipeline, case: GroundedCase, features, seen: SeenVideo):
    prefix, prompt = video_prefix(
        pipeline.head, case, features, seen, max_new_tokens=MAX_NEW_TOKENS
    )
    assert prefix.num_positions + len(prompt.suffix_ids) == case.num_positions
    return prefix, prompt


@pytest.mark.parametrize(("way", "case"), WAYS)
def test_every_case_is_the_references(opened, clips, way, case):
    pipeline, path = opened(way, case.model), case.path(clips)
    extracted = pipeline.features(path, case.options, deadline=Deadline.after(SECONDS))
    prefix, prompt = followed(pipeline, case, extracted.features, extracted.seen)
    logits = prefix.follow(prompt.suffix_ids)
    case.check_logits(logits, LOGIT_ERROR)

    result = pipeline.ask(path, case.query, case.options)
    assert result.frame_indices.tolist() == case.frame_indices
    assert result.generation.time_range_seconds == (0.0, case.duration_seconds)
    (answer,) = result.answers
    assert answer.prompt_token_ids.tolist() == case.input_ids
    num_sure = case.num_sure(case.logit_error(logits))
    assert num_sure > 0
    assert answer.token_ids[:num_sure].tolist() == case.token_ids[:num_sure]
    if num_sure == len(case.token_ids):
        assert answer.text == case.text
        assert answer.stop_reason == ("eos" if case.stopped_by_eos else "length")
        check_moments(answer, case)


@pytest.mark.parametrize("way", ["checkpoint", "cpu"])
@pytest.mark.parametrize("case", FORMULA_CASES, ids=[case.name for case in FORMULA_CASES])
def test_every_step_behind_frames_that_need_no_decoder_is_the_references(opened, way, case):
    """Of these cases the logits of all steps are recorded."""
    pipeline = opened(way, case.model)
    frames = formula_frames()
    features = pipeline.encoder.encode(
        pixels(frames, 224).reshape(12, 8, 224, 224, 3), pixels(frames[4::8], 336)
    )
    seen = SeenVideo(
        duration_seconds=case.duration_seconds,
        num_visual_tokens=NUM_POSITIONS[case.model],
        time_range_seconds=(0.0, case.duration_seconds),
        model_seconds=None,
    )
    prefix, prompt = followed(pipeline, case, features, seen)
    stages = load_file(FOLDER / "stages_formula.safetensors")
    steps = stages[f"{case.model.replace('.', '_')}.logits.decode_steps"]
    logits = prefix.follow(prompt.suffix_ids)
    # Behind recorded tokens, so that no step depends on the one before.
    for step, token_id in zip(steps, case.token_ids, strict=True):
        np.testing.assert_allclose(logits, step, atol=LOGIT_ERROR, rtol=0)
        assert logits.argmax() == token_id
        logits = prefix.extend(np.array([token_id]))


def pixels(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return uint8 (T, S, S, 3), as the media workers make them."""
    return np.stack([resize_short_side(frame, size, Limits()) for frame in frames])


@pytest.mark.parametrize("model", PARTS)
def test_attention_of_both_towers_is_fused_in_the_graph(grounded_engines, model):
    path = grounded_engines(model) / VISION_ONNX_NAME
    operators = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
    assert "MultiHeadAttention" in operators
    assert not {"Conv", "Einsum", "Softmax"} & operators


def check_moments(answer, case):
    """Every two time tokens are a moment where the task has times."""
    steps = [int(step) for step in re.findall(r"<(\d+)>", case.text)]
    expected = [case.duration_seconds * step / 300 for step in steps[: len(steps) // 2 * 2]]
    found = [second for one in answer.moments for second in (one.start_seconds, one.end_seconds)]
    assert found == (expected if case.task == "moment" else [])


def test_each_regime_of_rotation_has_a_prefix_and_changes_no_other_answer(opened, clips):
    """A question whose whole prompt passes 4096 positions is rotated otherwise from the first."""
    pipeline, video = opened("cpu", "phi3.5"), clips["carphone_pristine"]
    (crossing,) = [case for case in CASES if "crosses" in case.name]
    passing = f"{crossing.query} {crossing.query[:60]}"
    options = AnswerOptions(task="question", raw=True, max_new_tokens=4)
    apart = [pipeline.ask(video, query, options) for query in (EIGHT[0], passing)]
    num_prefix = apart[0].generation.prefix_tokens
    assert num_prefix + len(apart[0].answers[0].prompt_token_ids) < 4096
    assert len(apart[1].answers[0].prompt_token_ids) - 1 + NUM_POSITIONS["phi3.5"] > 4096
    together = pipeline.ask(video, [passing, EIGHT[0], passing], options)
    assert together.generation.prefix_tokens == 2 * num_prefix
    expected = [apart[1], apart[0], apart[1]]
    assert [one.to_json() for one in together.answers] == [
        one.answers[0].to_json() for one in expected
    ]
