"""Write a checkpoint's decoder and head as TensorRT-LLM reads them.

Pure PyTorch and safetensors: runs without a GPU and without TensorRT-LLM. Projector and embedding
table are not in it; they stay in PyTorch (`groundserve.families.videoitg.decoder`).

Source: names and layouts of NVIDIA/TensorRT-LLM 0428c18, `models/qwen/convert.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from groundserve.engines.profiles import Precision
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.config import CheckpointConfig
from groundserve.weights.tensors import torch_dtype, weight_files

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "rank0.safetensors"
# The name under which `model.py` registers its class.
ARCHITECTURE = "VideoITGQwen2ForGrounding"
# Name in a layer of ours -> name in a layer of theirs. Their `fc` is the branch that is activated,
# their `gate` the linear one: exchanging the two loads without a word and computes wrongly.
_LAYER_NAMES = {
    "self_attn.o_proj.weight": "attention.dense.weight",
    "mlp.gate_proj.weight": "mlp.fc.weight",
    "mlp.up_proj.weight": "mlp.gate.weight",
    "mlp.down_proj.weight": "mlp.proj.weight",
    "input_layernorm.weight": "input_layernorm.weight",
    "post_attention_layernorm.weight": "post_layernorm.weight",
}
# Rows of the fused projection, in this order.
_QKV = ("q_proj", "k_proj", "v_proj")


def dtype_name(precision: Precision) -> str:
    """Return TensorRT-LLM's name of a dtype, such as bfloat16."""
    return str(torch_dtype(precision)).removeprefix("torch.")


def convert_checkpoint(
    checkpoint: Checkpoint, out_dir: Path, *, precision: Precision, max_input_len: int
) -> None:
    """Write `config.json` and `rank0.safetensors`, for one GPU.

    Weights are read straight into the engine's dtype, the head into float32; no float32 copy of
    the decoder is made.
    """
    weights = checkpoint.load_grounding(dtype=torch_dtype(precision)).state_dict()
    converted = _read_head(checkpoint.directory)
    converted.update(_convert_layers(weights, checkpoint.config.num_hidden_layers))
    save_file(converted, out_dir / WEIGHTS_NAME)
    described = describe_model(checkpoint.config, precision=precision, max_input_len=max_input_len)
    (out_dir / CONFIG_NAME).write_text(json.dumps(described, indent=2) + "\n", "utf-8")


def describe_model(
    config: CheckpointConfig, *, precision: Precision, max_input_len: int
) -> dict[str, Any]:
    """Return what TensorRT-LLM must know of the model, by the names of its `QWenConfig`."""
    return {
        "architecture": ARCHITECTURE,
        "dtype": dtype_name(precision),
        "logits_dtype": "float32",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_size": config.hidden_size // config.num_attention_heads,
        "hidden_act": "silu",
        "norm_epsilon": config.rms_norm_eps,
        "position_embedding_type": "rope_gpt_neox",
        # Rows of the rotary table. PyTorch computes as many as a sequence needs, whatever this
        # number says; the plugin reads past the end of a table that is too short.
        "max_position_embeddings": max(config.max_position_embeddings, max_input_len),
        # Always written: TensorRT-LLM would fill in another default than the checkpoint's.
        "rotary_base": config.rope_theta,
        "rotary_scaling": None,
        "attn_bias": True,
        "mlp_bias": False,
        "qwen_type": "qwen2",
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
        "quantization": {"quant_algo": None},
    }


def _convert_layers(
    weights: MutableMapping[str, Tensor], num_layers: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of all but embeddings and head.

    What is taken is removed: parts are let go of as they are joined, so that no second decoder is
    held.
    """
    for layer in range(num_layers):
        ours, theirs = f"decoder.layers.{layer}.", f"transformer.layers.{layer}."
        for kind in ("weight", "bias"):
            # H query heads, K key and value heads, each of d: (H*d + 2*K*d, D) or (H*d + 2*K*d,)
            rows = [weights.pop(f"{ours}self_attn.{part}.{kind}") for part in _QKV]
            yield f"{theirs}attention.qkv.{kind}", torch.cat(rows)
        for our_name, their_name in _LAYER_NAMES.items():
            yield theirs + their_name, weights.pop(ours + our_name)
    yield "transformer.ln_f.weight", weights.pop("decoder.norm.weight")


def _read_head(directory: Path) -> dict[str, Tensor]:
    """Return the head in float32, not by way of the engine's dtype."""
    head = {}
    for file in weight_files(directory):
        with safe_open(file, framework="pt") as tensors:
            for kind in ("weight", "bias"):
                if f"out_proj.{kind}" in tensors.keys():  # noqa: SIM118 - not a dict
                    head[f"score.{kind}"] = tensors.get_tensor(f"out_proj.{kind}").float()
    return head
