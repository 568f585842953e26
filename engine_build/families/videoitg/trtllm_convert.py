"""Write a checkpoint's decoder and head as TensorRT-LLM reads them.

Pure PyTorch and safetensors: runs without a GPU and without TensorRT-LLM. Projector and embedding
table are not in it; they stay in PyTorch (`groundserve.families.videoitg.decoder`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine_build.trtllm.layout import (
    CONFIG_NAME,
    DTYPE_NAMES,
    WEIGHTS_NAME,
    convert_layers,
)
from groundserve.engines.profiles import Precision
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.config import CheckpointConfig
from groundserve.weights.tensors import torch_dtype, weight_files

# The name under which `trtllm_model.py` registers its class.
ARCHITECTURE = "VideoITGQwen2ForGrounding"


def convert_checkpoint(
    checkpoint: Checkpoint, out_dir: Path, *, precision: Precision, max_input_len: int
) -> None:
    """Write `config.json` and `rank0.safetensors`, for one GPU.

    Weights are read straight into the engine's dtype, the head into float32; no float32 copy of
    the decoder is made.

    Source: NVIDIA/TensorRT-LLM 0428c18, `models/qwen/convert.py`; see `convert_layers`.
    """
    weights = checkpoint.load_grounding(dtype=torch_dtype(precision)).state_dict()
    converted = _read_head(checkpoint.directory)
    converted.update(convert_layers(weights, "decoder.", checkpoint.config.num_hidden_layers))
    save_file(converted, out_dir / WEIGHTS_NAME)
    described = describe_model(checkpoint.config, precision=precision, max_input_len=max_input_len)
    (out_dir / CONFIG_NAME).write_text(json.dumps(described, indent=2) + "\n", "utf-8")


def describe_model(
    config: CheckpointConfig, *, precision: Precision, max_input_len: int
) -> dict[str, Any]:
    """Return what TensorRT-LLM must know of the model, by the names of its `QWenConfig`.

    Args:
        config: Of the checkpoint; every number comes from it.
        precision: Dtype of the engine.
        max_input_len: Tokens of the longest sequence the engine will take.
    """
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


def _read_head(directory: Path) -> dict[str, Tensor]:
    """Return the head in float32, not by way of the engine's dtype."""
    head = {}
    for file in weight_files(directory):
        with safe_open(file, framework="pt") as tensors:
            for kind in ("weight", "bias"):
                if f"out_proj.{kind}" in tensors.keys():  # noqa: SIM118 - not a dict
                    head[f"score.{kind}"] = tensors.get_tensor(f"out_proj.{kind}").float()
    return head
