"""A checkpoint in TensorRT-LLM's form: names, rows, dtypes and the config's numbers."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from engine_build.trtllm.convert import convert_checkpoint
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.fake_tensorrt_llm import SIGNATURES
from tests.support.reference import SET_1, SET_2


def convert(checkpoint, out_dir, *, precision="bf16", max_input_len=64):
    convert_checkpoint(checkpoint, out_dir, precision=precision, max_input_len=max_input_len)
    config = json.loads((out_dir / "config.json").read_text())
    return config, load_file(out_dir / "rank0.safetensors")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_convert_rounds_all_but_the_head(precision, dtype, tmp_path):
    opened = Checkpoint.open(SHIPPED_CHECKPOINT)
    config, weights = convert(opened, tmp_path, precision=precision)
    assert config["dtype"] == str(dtype).removeprefix("torch.")
    heads = {name: weights.pop(f"score.{name}") for name in ("weight", "bias")}
    assert {tensor.dtype for tensor in weights.values()} == {dtype}
    ours = opened.load_grounding().head
    assert torch.equal(heads["weight"], ours.weight)
    assert torch.equal(heads["bias"], ours.bias)


def test_convert_takes_numbers_from_the_checkpoint(tmp_path):
    config, _ = convert(Checkpoint.open(SET_2 / "videoitg-pad-bang"), tmp_path)
    assert config == {
        "architecture": "VideoITGQwen2ForGrounding",
        "dtype": "bfloat16",
        "logits_dtype": "float32",
        "vocab_size": 374,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_size": 16,
        "hidden_act": "silu",
        "norm_epsilon": 1e-6,
        "position_embedding_type": "rope_gpt_neox",
        "max_position_embeddings": 32768,
        "rotary_base": 1e6,
        "rotary_scaling": None,
        "attn_bias": True,
        "mlp_bias": False,
        "qwen_type": "qwen2",
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
        "quantization": {"quant_algo": None},
    }
    known = {*SIGNATURES["QWenConfig"]["required"], *SIGNATURES["QWenConfig"]["optional"]}
    assert config.keys() <= known
    assert set(SIGNATURES["QWenConfig"]["required"]) <= config.keys()


@pytest.mark.parametrize(
    ("max_input_len", "rows"),
    [pytest.param(64, 32768, id="short"), pytest.param(40000, 40000, id="longer_than_trained")],
)
def test_convert_makes_the_rotary_table_long_enough(max_input_len, rows, tmp_path):
    opened = Checkpoint.open(SET_1 / "videoitg-tiny")
    config, _ = convert(opened, tmp_path, max_input_len=max_input_len)
    assert config["max_position_embeddings"] == rows
