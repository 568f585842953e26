"""From FEATURES to the request of Triton's `tensorrtllm` backend, and from its tokens to answers.

The backend is a double that executes the converted checkpoint.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from engine_build.families.vtimellm.trtllm_convert import convert_checkpoint
from engine_build.triton.tensorrt_llm import executor_config
from engine_build.trtllm.generation import GenerationLimits
from groundserve.errors import GroundserveError, InvalidRequestError, UnsupportedError
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.families.vtimellm.checkpoint import Checkpoint
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.options import AnswerOptions
from python_backend.generate.tensorrt_llm import read_answer, request_tensors, video_key
from tests.answer_cases import CASES, CHECKPOINTS, MODELS
from tests.fake_tensorrt_llm.executor import FACTS, FakeExecutor
from tests.reference import VTIMELLM

RECORDED = {
    case["name"]: case for case in json.loads((VTIMELLM / "cases.json").read_text())["cases"]
}
LIMITS = GenerationLimits.for_model(VTimeLLMSpec())
END_ID = 2


def config(precision="fp16", cache_memory=0.5):
    return executor_config(
        Path("/engines/trtllm"), LIMITS, precision=precision, cache_memory=cache_memory
    )


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """By model: the checkpoint, and its converted form, in float32 as the reference's run was."""
    made = {}

    def convert(model):
        if model not in made:
            opened = Checkpoint.open(CHECKPOINTS, parts=MODELS[model])
            made[model] = opened, tmp_path_factory.mktemp(model)
            convert_checkpoint(opened, made[model][1], precision="fp32")
        return made[model]

    return convert


def open_executor(directory, **options):
    """Return the double; the table is float32 here, as the engine."""
    text = config().replace("data_type: TYPE_FP16", "data_type: TYPE_FP32")
    return FakeExecutor(text, directory, **options)


def ask(executor, opened, case):
    """Return one answer, from the recorded features on."""
    (key,) = RECORDED[case.name]["features"]
    features = np.load(VTIMELLM / "features" / f"{key}.npy")[:, None]
    with torch.inference_mode():
        block = opened.load_front()(torch.from_numpy(features))
    place = case.input_ids.index(VISUAL_TOKEN_ID)
    request = request_tensors(
        Prompt(token_ids=np.array(case.input_ids), num_prefix=place + 1),
        block,
        case.options,
        video=video_key(features.astype(np.float16)),
        vocab_size=opened.vocab_size,
        end_id=opened.end_token_id,
        seed=None,
    )
    return read_answer(executor.execute(request), case.options, end_id=opened.end_token_id)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_answer_is_the_references(case, converted):
    opened, directory = converted(case.model)
    generated = ask(open_executor(directory), opened, case)
    assert generated.token_ids.tolist() == case.token_ids
    assert generated.stop_reason == ("eos" if case.stopped_by_eos else "length")


def test_a_padded_answer_ends_at_its_end_token(converted):
    case = next(case for case in CASES if case.stopped_by_eos)
    opened, directory = converted(case.model)
    generated = ask(open_executor(directory, pads=True), opened, case)
    assert generated.token_ids.tolist() == case.token_ids
    assert generated.stop_reason == "eos"


def test_questions_on_one_video_share_its_prefix_and_no_other_video_does(converted):
    first = CASES[0]
    opened, directory = converted(first.model)
    executor = open_executor(directory)
    place = first.input_ids.index(VISUAL_TOKEN_ID)
    ask(executor, opened, first)
    ask(executor, opened, replace(first, input_ids=[*first.input_ids[: place + 1], 5, 6, 7]))
    assert executor.reused == place + 100
    other = next(one for one in CASES if one.video != first.video and one.model == first.model)
    ask(executor, opened, other)
    assert executor.reused == place


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_config_is_what_the_backend_reads(precision):
    parsed = text_format.Parse(config(precision), ModelConfig())
    for group, declared in (("inputs", parsed.input), ("outputs", parsed.output)):
        for one in declared:
            known = FACTS[group][one.name]
            kind = {"table": f"TYPE_{precision.upper()}"}.get(known["type"], known["type"])
            assert (one.data_type, list(one.dims)) == (_data_type(kind), known["dims"]), one.name
    scalars = {one.name for one in parsed.input if one.HasField("reshape")}
    assert scalars == {name for name, fact in FACTS["inputs"].items() if fact["dims"] == [1]} & {
        one.name for one in parsed.input
    }
    assert {one.name for one in parsed.input if not one.optional} == set(FACTS["required"])
    assert set(FACTS["parameters_without_default"]) <= set(parsed.parameters)
    assert set(parsed.parameters) <= {*FACTS["parameters"], *FACTS["parameters_without_default"]}
    assert parsed.parameters["gpt_model_path"].string_value == "/engines/trtllm"
    assert parsed.HasField("model_transaction_policy")
    assert not parsed.model_transaction_policy.decoupled
    assert parsed.instance_group[0].kind == ModelInstanceGroup.KIND_CPU


def _data_type(name):
    return (
        ModelConfig.DESCRIPTOR.fields_by_name["input"]
        .message_type.fields_by_name["data_type"]
        .enum_type.values_by_name[name]
        .number
    )


def test_a_precision_that_no_engine_has_is_refused():
    with pytest.raises(UnsupportedError, match=r"precision must be .* fp16, bf16 .* got fp32"):
        config(precision="fp32")


@pytest.mark.parametrize("part", [0.0, 1.0])
def test_a_part_of_the_memory_that_is_none_is_refused(part):
    with pytest.raises(
        InvalidRequestError, match=rf"cache_memory must lie in \(0, 1\), got {part}"
    ):
        config(cache_memory=part)


def test_a_relative_engine_is_refused():
    with pytest.raises(InvalidRequestError, match="absolute path, got trtllm"):
        executor_config(Path("trtllm"), LIMITS, precision="fp16", cache_memory=0.5)


def drawn(**options):
    return request_tensors(
        Prompt(token_ids=np.array([1, VISUAL_TOKEN_ID, 5]), num_prefix=2),
        np.zeros((3, 4), np.float16),
        AnswerOptions(task="chat", **options),
        video=7,
        vocab_size=10,
        end_id=END_ID,
        seed=11,
    )


def test_a_drawn_answer_has_the_seed_and_all_tokens_to_draw_from():
    request = drawn(temperature=0.5, top_p=0.6, seed=11)
    found = {name: request[name].item() for name in ("runtime_top_k", "temperature", "seed")}
    assert found == {"runtime_top_k": 0, "temperature": 0.5, "seed": 11}
    assert request["runtime_top_p"] == np.float32(0.6)
    assert drawn(temperature=0.5, seed=11)["runtime_top_p"] == 1
    assert request["input_ids"].tolist() == [[1, 10, 11, 12, 5]]
    assert request["prompt_table_extra_ids"].tolist() == [[0, 7, 7, 7, 0]]


def test_other_features_have_another_key_and_none_is_that_of_text():
    features = np.random.default_rng(0).standard_normal((4, 1, 3)).astype(np.float16)
    keys = {video_key(features), video_key(features[::-1]), video_key(features.copy())}
    assert len(keys) == 2
    assert 0 not in keys
    assert max(keys) < 2**64


@pytest.mark.parametrize(
    ("ids", "length", "words"),
    [
        pytest.param([[[5, 6]]], [[2]], "must answer 3 tokens, or fewer .* got 2", id="short"),
        pytest.param([[[5, 6, 7, 8]]], [[4]], "must answer 3 tokens, or fewer .* got 4", id="long"),
        pytest.param([[5, 6, 7]], [[3]], r"must answer output_ids \(1, 1, n\)", id="shape"),
        pytest.param([[[5, 6, 7]]], [3], r"sequence_length \(1, 1\)", id="lengths"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(ids, length, words):
    outputs = {"output_ids": np.array(ids, np.int32), "sequence_length": np.array(length, np.int32)}
    with pytest.raises(GroundserveError, match=words):
        read_answer(outputs, AnswerOptions(task="chat", max_new_tokens=3), end_id=END_ID)
