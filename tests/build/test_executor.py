"""From FEATURES to the request of Triton's `tensorrtllm` backend, and from its tokens to answers.

The backend is a double that executes the converted checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from engine_build.triton.tensorrt_llm import executor_config
from engine_build.trtllm.generation import GenerationLimits
from engine_build.trtllm.llama import convert_checkpoint
from groundserve.deadline import Deadline
from groundserve.errors import (
    DeadlineExceededError,
    EngineMismatchError,
    GroundserveError,
    InvalidRequestError,
    UnsupportedError,
)
from groundserve.families import get_family
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.families.vtimellm.checkpoint import Checkpoint
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.options import AnswerOptions
from python_backend.generate import finish
from python_backend.generate.tensorrt_llm import (
    ExecutorGenerator,
    StreamedAnswer,
    read_vocab_size,
    request_tensors,
    rows_key,
)
from python_backend.meter import Counts
from tests.answer_cases import CASES, CHECKPOINTS, MODELS
from tests.fake_tensorrt_llm.executor import FACTS, FakeExecutor
from tests.reference import VTIMELLM

RECORDED = {
    case["name"]: case for case in json.loads((VTIMELLM / "cases.json").read_text())["cases"]
}
LIMITS = GenerationLimits.for_model(get_family("vtimellm"), VTimeLLMSpec())
END_ID = 2


def config(precision="fp16", cache_memory=0.5):
    return executor_config(Path("trtllm"), LIMITS, precision=precision, cache_memory=cache_memory)


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


class Direct:
    """Calls the double as the server would."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.double = FakeExecutor(config(), directory, **options)

    def stream(self, inputs, *, deadline):
        deadline.check()
        return self.double.execute(inputs)


class Recorded:
    """A front of PyTorch, as tests/trtllm_llama.py is a decoder."""

    def __init__(self, opened: Checkpoint) -> None:
        self._front = opened.load_front()

    def embed_video(self, features, inputs):
        with torch.inference_mode():
            return self._front(torch.from_numpy(features)).numpy()


def ask(executor, opened, case, *others):
    """Return what is generated for a case's ids, and for others' on its video."""
    (key,) = RECORDED[case.name]["features"]
    features = np.load(VTIMELLM / "features" / f"{key}.npy")[:, None]
    generator = ExecutorGenerator(
        front=Recorded(opened), executor=executor, vocab_size=opened.vocab_size, end_id=END_ID
    )
    num_prefix = case.input_ids.index(VISUAL_TOKEN_ID) + 1
    return finish(
        generator.answer(
            features,
            (),
            [
                Prompt(token_ids=np.array(ids), num_prefix=num_prefix)
                for ids in (case.input_ids, *others)
            ],
            case.options,
            end_ids=frozenset({END_ID}),
            deadline=Deadline.after(60.0),
            meter=Counts(),
        )
    )


@pytest.mark.parametrize("pads", [False, True], ids=["", "padded"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_answer_is_the_references(case, converted, pads):
    opened, directory = converted(case.model)
    (generated,) = ask(Direct(directory, pads=pads), opened, case).answers
    assert generated.token_ids.tolist() == case.token_ids
    assert generated.stop_reason == ("eos" if case.stopped_by_eos else "length")


def test_questions_on_one_video_share_its_prefix_and_no_other_video_does(converted):
    first = CASES[0]
    opened, directory = converted(first.model)
    executor = Direct(directory)
    place = first.input_ids.index(VISUAL_TOKEN_ID)
    more = [[*first.input_ids[: place + 1], *ids] for ids in ([5, 6, 7], [8, 9])]
    generation = ask(executor, opened, first, *more)
    assert generation.prefix_tokens == place + 100
    assert executor.double.reused == [0, place + 100, place + 100]
    assert generation.answers[0].token_ids.tolist() == first.token_ids
    other = next(one for one in CASES if one.video != first.video and one.model == first.model)
    ask(executor, opened, other)
    assert executor.double.reused[-1] == place


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
    assert parsed.parameters["gpt_model_path"].string_value == "trtllm"
    assert parsed.model_transaction_policy.decoupled
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


def drawn(**options):
    return request_tensors(
        Prompt(token_ids=np.array([1, VISUAL_TOKEN_ID, 5]), num_prefix=2),
        np.zeros((3, 4), np.float16),
        AnswerOptions(task="chat", **options),
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
    key = rows_key(np.zeros((3, 4), np.float16))
    assert request["prompt_table_extra_ids"].tolist() == [[0, key, key, key, 0]]
    assert request["streaming"].tolist() == [[True]]


def test_an_id_that_would_be_a_row_of_the_table_is_refused():
    with pytest.raises(EngineMismatchError, match="gave the id 10, and the model has 10 embed"):
        request_tensors(
            Prompt(token_ids=np.array([1, VISUAL_TOKEN_ID, 10]), num_prefix=2),
            np.zeros((3, 4), np.float16),
            AnswerOptions(task="chat"),
            vocab_size=10,
            end_id=END_ID,
            seed=None,
        )


def test_other_rows_have_another_key_and_none_is_that_of_text():
    block = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float16)
    keys = {rows_key(block), rows_key(block[::-1]), rows_key(block.copy())}
    assert len(keys) == 2
    assert 0 not in keys
    assert max(keys) < 2**64


def part(*token_ids):
    return {
        "output_ids": np.array(token_ids, np.int32).reshape(1, 1, -1),
        "sequence_length": np.array([[len(token_ids)]], np.int32),
    }


@pytest.mark.parametrize(
    ("parts", "token_ids", "stop_reason"),
    [
        pytest.param([part(5), part()], [5, END_ID], "eos", id="without_its_end"),
        pytest.param([part()], [END_ID], "eos", id="nothing_but_the_end"),
        pytest.param([part(5), part(END_ID)], [5, END_ID], "eos", id="with_its_end"),
        pytest.param([part(5, END_ID), part(END_ID)], [5, END_ID], "eos", id="padded"),
        pytest.param([part(5, 6), part(7), part()], [5, 6, 7], "length", id="as_long_as_asked"),
    ],
)
def test_an_answer_ends_with_its_end_token_or_as_long_as_asked(parts, token_ids, stop_reason):
    answer = StreamedAnswer(max_new_tokens=3, end_id=END_ID)
    for one in parts:
        answer.add(one)
    generated = answer.finish()
    assert (generated.token_ids.tolist(), generated.stop_reason) == (token_ids, stop_reason)


@pytest.mark.parametrize(
    ("token_ids", "stop_reason"), [([5], "deadline"), ([5, 6, 7], "length"), ([END_ID], "eos")]
)
def test_time_that_runs_out_ends_an_answer_that_is_not_whole(token_ids, stop_reason):
    answer = StreamedAnswer(max_new_tokens=3, end_id=END_ID)
    answer.add(part(*token_ids))
    generated = answer.cut_off()
    assert (generated.token_ids.tolist(), generated.stop_reason) == (token_ids, stop_reason)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        pytest.param(part(5, 6, 7, 8), "must answer at most 3 tokens, got 4", id="long"),
        pytest.param(
            {**part(5), "output_ids": np.array([[5]], np.int32)},
            r"must answer output_ids \(1, 1, n\)",
            id="shape",
        ),
        pytest.param(
            {**part(5), "sequence_length": np.array([1], np.int32)},
            r"sequence_length \(1, 1\)",
            id="lengths",
        ),
    ],
)
def test_a_part_that_cannot_be_is_refused(outputs, words):
    with pytest.raises(GroundserveError, match=words):
        StreamedAnswer(max_new_tokens=3, end_id=END_ID).add(outputs)


class Scripted:
    """Answers by a script: parts, or an error instead of the next one."""

    def __init__(self, *scripts) -> None:
        self._scripts = list(scripts)
        self.num_asked = 0

    def stream(self, inputs, *, deadline):
        script, self.num_asked = self._scripts[self.num_asked], self.num_asked + 1
        for one in script:
            if isinstance(one, Exception):
                raise one
            yield one


class Rows:
    def embed_video(self, features, inputs):
        return np.zeros((3, 4), np.float32)


def ask_scripted(*scripts):
    executor, meter = Scripted(*scripts), Counts()
    generator = ExecutorGenerator(front=Rows(), executor=executor, vocab_size=10, end_id=END_ID)
    prompts = [
        Prompt(token_ids=np.array([1, VISUAL_TOKEN_ID, 5, number]), num_prefix=2)
        for number in range(len(scripts))
    ]

    def answer():
        return finish(
            generator.answer(
                np.zeros((1, 1, 2), np.float16),
                (),
                prompts,
                AnswerOptions(task="chat", max_new_tokens=3),
                end_ids=frozenset({END_ID}),
                deadline=Deadline.after(60.0),
                meter=meter,
            )
        )

    return answer, executor, meter


def test_answers_whose_time_runs_out_end_there_once_one_has_begun():
    late = DeadlineExceededError("late")
    answer, _, meter = ask_scripted([part(5), part()], [part(6), late], [late])
    generation = answer()
    assert [(one.token_ids.tolist(), one.stop_reason) for one in generation.answers] == [
        ([5, END_ID], "eos"),
        ([6], "deadline"),
        ([], "deadline"),
    ]
    assert (generation.prefix_tokens, meter["prefix_tokens"]) == (4, 4)
    # Of the question that got no token, nothing is known to have been computed.
    assert (generation.prompt_tokens, meter["prompt_tokens"]) == (6, 4)
    assert generation.generated_tokens == meter["generated_tokens"] == 3


def test_time_that_runs_out_before_the_first_token_is_an_error():
    answer, executor, meter = ask_scripted([DeadlineExceededError("late")], [part(5), part()])
    with pytest.raises(DeadlineExceededError):
        answer()
    assert executor.num_asked == 1
    assert meter["prefix_tokens"] == 0


def test_a_backend_that_fails_is_an_error_and_its_tokens_are_counted():
    answer, executor, meter = ask_scripted([part(5), GroundserveError("broken")], [part()])
    with pytest.raises(GroundserveError, match="broken"):
        answer()
    assert executor.num_asked == 1
    assert (meter["prefix_tokens"], meter["generated_tokens"]) == (4, 1)


@pytest.mark.parametrize("text", ["{", "{}", '{"pretrained_config": {"vocab_size": "640"}}'])
def test_an_engine_that_does_not_say_its_vocabulary_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(EngineMismatchError, match="does not say the vocabulary's size"):
        read_vocab_size(tmp_path)
