"""A decoder in TensorRT-LLM's form: files, names and the order of rows.

Source: names and layouts of NVIDIA/TensorRT-LLM 0428c18, `models/qwen/convert.py`.

Shape letters: D decoder width, H query heads, K key and value heads, d head size.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

import torch
from torch import Tensor

from groundserve.engines.profiles import Precision

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "rank0.safetensors"
DTYPE_NAMES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

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


def convert_layers(
    weights: MutableMapping[str, Tensor], prefix: str, num_layers: int
) -> Iterator[tuple[str, Tensor]]:
    """Take a decoder's layers and last norm by their names in transformers, and name them anew.

    Args:
        weights: What is taken is removed: parts are let go of as they are joined, so that no second
            decoder is held.
        prefix: Of the names, such as "model.".
        num_layers: Of the decoder.

    Yields:
        Name and tensor, of all but embeddings and head.
    """
    for layer in range(num_layers):
        ours, theirs = f"{prefix}layers.{layer}.", f"transformer.layers.{layer}."
        for kind in ("weight", "bias"):
            # (H*d + 2*K*d, D) or (H*d + 2*K*d,)
            rows = [weights.pop(f"{ours}self_attn.{part}.{kind}") for part in _QKV]
            yield f"{theirs}attention.qkv.{kind}", torch.cat(rows)
        for our_name, their_name in _LAYER_NAMES.items():
            yield theirs + their_name, weights.pop(ours + our_name)
    yield "transformer.ln_f.weight", weights.pop(f"{prefix}norm.weight")
