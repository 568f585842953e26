"""Write a checkpoint's decoder, adapters merged, as TensorRT-LLM's own Llama reads it.

Pure PyTorch and safetensors: runs without a GPU and without TensorRT-LLM. What stands before the
decoder is not in it; the rows it makes of a video reach the engine with a request, as its prompt
table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from engine_build.trtllm.layout import CONFIG_NAME, DTYPE_NAMES, WEIGHTS_NAME, convert_layers
from groundserve.errors import UnsupportedError
from groundserve.profiles import Precision
from groundserve.tensors import torch_dtype

ARCHITECTURE = "LlamaForCausalLM"
"""TensorRT-LLM's name of its own Llama, in `tensorrt_llm.models.MODEL_MAP`."""


class LlamaCheckpoint(Protocol):
    """A checkpoint whose decoder is Llama."""

    @property
    def config(self) -> LlamaConfig:
        """Of the decoder."""

    def load_decoder(self, *, dtype: torch.dtype) -> LlamaForCausalLM:
        """Read the decoder with its adapters merged."""


def convert_checkpoint(checkpoint: LlamaCheckpoint, out_dir: Path, *, precision: Precision) -> None:
    """Write `config.json` and `rank0.safetensors`, for one GPU.

    Args:
        checkpoint: Opened; its weights are read here.
        out_dir: Existing directory.
        precision: Dtype of the engine. In 16 bits each adapter's sum is rounded.

    Raises:
        InvalidRequestError: A tensor is missing or has another shape than the config says.
        UnsupportedError: The decoder has what TensorRT-LLM's Llama would leave out.

    Source: NVIDIA/TensorRT-LLM 04a2cac, `models/llama/convert.py`; see `convert_layers`.
    """
    described = describe_model(checkpoint.config, precision=precision)
    weights = checkpoint.load_decoder(dtype=torch_dtype(precision)).state_dict()
    # Tied ones are one tensor here, and two in their form.
    head = weights.pop("lm_head.weight").clone()
    converted = {
        "transformer.vocab_embedding.weight": weights.pop("model.embed_tokens.weight"),
        "lm_head.weight": head,
        **dict(
            convert_layers(weights, "model.", checkpoint.config.num_hidden_layers, qkv=("weight",))
        ),
    }
    assert not weights, f"left out of the engine: {', '.join(weights)}"
    save_file(converted, out_dir / WEIGHTS_NAME)
    (out_dir / CONFIG_NAME).write_text(json.dumps(described, indent=2) + "\n", "utf-8")


def describe_model(config: LlamaConfig, *, precision: Precision) -> dict[str, Any]:
    """Return what TensorRT-LLM must know of the model, by the names of its `LLaMAConfig`.

    Args:
        config: Of the decoder; every number comes from it.
        precision: Dtype of the engine.

    Raises:
        UnsupportedError: The decoder has biases or scaled positions, which no Llama 1 or 2 has.

    Source: NVIDIA/TensorRT-LLM 89fd9b7, `models/llama/config.py`.
    """
    rope = config.rope_parameters
    found = {
        "attention_bias": (config.attention_bias, False),
        "mlp_bias": (config.mlp_bias, False),
        "hidden_act": (config.hidden_act, "silu"),
        "rope_type": (rope["rope_type"], "default"),
    }
    for name, (value, expected) in found.items():
        if value != expected:
            raise UnsupportedError(
                f"{name} of a decoder for TensorRT-LLM must be {expected!r}, as Llama 2's is, got "
                f"{value!r}; choose the profile torch"
            )
    return {
        "architecture": ARCHITECTURE,
        "dtype": DTYPE_NAMES[precision],
        "logits_dtype": "float32",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_size": config.head_dim,
        "hidden_act": config.hidden_act,
        "norm_epsilon": config.rms_norm_eps,
        "position_embedding_type": "rope_gpt_neox",
        "max_position_embeddings": config.max_position_embeddings,
        "rotary_base": rope["rope_theta"],
        "rotary_scaling": None,
        "attn_bias": False,
        "mlp_bias": False,
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
        "quantization": {"quant_algo": None},
    }
