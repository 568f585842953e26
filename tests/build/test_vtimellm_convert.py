"""Vicuna in TensorRT-LLM's form: tensors, numbers, and what they compute by themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from engine_build.trtllm.llama import convert_checkpoint, describe_model
from groundserve.errors import UnsupportedError
from groundserve.families.plans import VISUAL_TOKEN_ID
from groundserve.families.vtimellm.checkpoint import Checkpoint
from tests.answer_cases import CASES, CHECKPOINTS, MODELS
from tests.fake_tensorrt_llm import SIGNATURES
from tests.llama import tiny_llama
from tests.reference import VTIMELLM
from tests.trtllm_llama import ConvertedLlama

RECORDED = {
    case["name"]: case for case in json.loads((VTIMELLM / "cases.json").read_text())["cases"]
}
FIRST_LOGITS = dict(zip(RECORDED, np.load(VTIMELLM / "prefill_logits_fp32.npy"), strict=True))


def open_checkpoint(model="stage3"):
    return Checkpoint.open(CHECKPOINTS, parts=MODELS[model])


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """By model: the converted files, in float32."""
    made = {}

    def convert(model):
        if model not in made:
            made[model] = tmp_path_factory.mktemp(model)
            convert_checkpoint(open_checkpoint(model), made[model], precision="fp32")
        return made[model]

    return convert


def prompt_of(case, checkpoint):
    """Return ids with rows of the table in the place of the video, and the table."""
    (key,) = RECORDED[case.name]["features"]
    features = np.load(VTIMELLM / "features" / f"{key}.npy")
    with torch.inference_mode():
        table = checkpoint.load_front()(torch.from_numpy(features)[:, None])
    ids = torch.tensor(case.input_ids)
    place = case.input_ids.index(VISUAL_TOKEN_ID)
    rows = checkpoint.vocab_size + torch.arange(len(table))
    return torch.cat([ids[:place], rows, ids[place + 1 :]]), table


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_converted_weights_compute_what_the_reference_recorded(case, converted):
    checkpoint = open_checkpoint(case.model)
    llama = ConvertedLlama(converted(case.model))
    ids, table = prompt_of(case, checkpoint)
    # Float32 both times, in another order of additions; as tests/parity has it.
    logits = llama.logits(ids, table).numpy()
    np.testing.assert_allclose(logits, FIRST_LOGITS[case.name], atol=1e-4, rtol=0)
    answer = llama.greedy(ids, table, max_new_tokens=len(case.token_ids), end_id=2)
    assert answer == case.token_ids


class OfModel:
    """What `convert_checkpoint` asks of a checkpoint, of a model in memory."""

    def __init__(self, model):
        self.config, self._model = model.config, model

    def load_decoder(self, *, dtype):
        return self._model.to(dtype)


@pytest.fixture
def grouped(tmp_path):
    """A decoder with fewer key and value heads than heads, and where it was converted to."""
    model = tiny_llama(num_kv_heads=2)
    convert_checkpoint(OfModel(model), tmp_path, precision="fp32")
    return model.double(), tmp_path


def exact_error(model, directory):
    """Return by how much the re-executed weights miss transformers, in float64."""
    ids = torch.arange(20) % model.config.vocab_size
    with torch.inference_mode():
        expected = model(ids[None]).logits[0, -1]
    found = ConvertedLlama(directory, dtype=torch.float64).logits(
        ids, torch.zeros((1, model.config.hidden_size))
    )
    return float((found - expected).abs().max() / expected.abs().max())


# transformers rounds to float32 whatever the dtype: four times in each of five norms (what comes
# in, its mean square, the root's inverse, their product), twice in the rotary factors of a layer.
ROUNDINGS = (5 * 4 + 2 * 2) * 2.0**-24


def test_grouped_heads_compute_the_same(grouped):
    assert exact_error(*grouped) < ROUNDINGS


def test_a_head_that_is_the_table_is_written_twice(tmp_path):
    model = tiny_llama()
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight
    convert_checkpoint(OfModel(model), tmp_path, precision="fp32")
    assert exact_error(model.double(), tmp_path) < ROUNDINGS


def exchanged(one, other):
    def change(weights):
        weights[one], weights[other] = weights[other], weights[one]

    return change


def turned_rows(weights):
    name = "transformer.layers.0.attention.qkv.weight"
    query, key, value = weights[name].split([64, 32, 32])
    weights[name] = torch.cat([query, value, key])


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(
            exchanged("transformer.layers.0.mlp.fc.weight", "transformer.layers.0.mlp.gate.weight"),
            id="activated_branch",
        ),
        pytest.param(turned_rows, id="rows_of_key_and_value"),
        pytest.param(
            exchanged("transformer.vocab_embedding.weight", "lm_head.weight"), id="table_and_head"
        ),
    ],
)
def test_a_mistake_in_the_conversion_would_show(grouped, mistake):
    model, directory = grouped
    weights = load_file(directory / "rank0.safetensors")
    mistake(weights)
    save_file(
        {name: t.contiguous() for name, t in weights.items()}, directory / "rank0.safetensors"
    )
    assert exact_error(model, directory) > 10_000 * ROUNDINGS


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_are_rounded_as_the_reference_merges_them(precision, tmp_path):
    checkpoint = open_checkpoint()
    convert_checkpoint(checkpoint, tmp_path, precision=precision)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    weights = load_file(tmp_path / "rank0.safetensors")
    ours = checkpoint.load_decoder(dtype=dtype).state_dict()
    assert {tensor.dtype for tensor in weights.values()} == {dtype}
    assert torch.equal(weights["lm_head.weight"], ours["lm_head.weight"])
    dense = weights["transformer.layers.1.attention.dense.weight"]
    assert torch.equal(dense, ours["model.layers.1.self_attn.o_proj.weight"])


def test_the_config_has_the_names_that_the_library_takes(converted):
    config = json.loads((converted("stage3") / "config.json").read_text())
    llama = open_checkpoint().config
    assert config["architecture"] == "LlamaForCausalLM"
    known = SIGNATURES["LLaMAConfig"]
    assert set(config) <= {*known["required"], *known["optional"]}
    assert set(known["required"]) <= set(config)
    assert config["rotary_base"] == llama.rope_parameters["rope_theta"]
    assert config["norm_epsilon"] == llama.rms_norm_eps
    assert config["head_size"] * config["num_attention_heads"] == config["hidden_size"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention_bias": True}, "attention_bias .* must be False"),
        ({"mlp_bias": True}, "mlp_bias .* must be False"),
        ({"hidden_act": "gelu"}, "hidden_act .* must be 'silu'"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            "rope_type .* must be 'default'",
        ),
    ],
)
def test_a_decoder_that_is_no_vicuna_is_refused(changes, words):
    with pytest.raises(UnsupportedError, match=words):
        describe_model(LlamaConfig(**changes), precision="fp16")
