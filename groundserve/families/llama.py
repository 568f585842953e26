"""Llama as transformers has it: the decoder of several families, from the files of its base."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.decoder_config import no_decoder, read_decoder_config
from groundserve.strict_json import shown
from groundserve.weights.tensors import all_weight_files, check_num_layers

_SIDE_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)


def llama_config(
    raw: Mapping[str, Any],
    *,
    where: str,
    model_types: Sequence[str] = ("llama",),
    vocab_size: int | None = None,
) -> LlamaConfig:
    """Read a config.json.

    Args:
        raw: As parsed.
        where: The part, for errors.
        model_types: Those that say so: a reference may relabel what is Llama otherwise.
        vocab_size: Rows of the tables of tokens, where they are not as many as the file says.
    """
    model_type = raw.get("model_type")
    if model_type not in model_types:
        raise UnsupportedError(
            f"{where}: model_type must be llama, as its decoder is, got {shown(model_type)}"
        )
    check_num_layers(raw.get("num_hidden_layers"), where=where)
    rows = {} if vocab_size is None else {"vocab_size": vocab_size}
    config: LlamaConfig = read_decoder_config(raw, LlamaConfig, where=where, name="Llama", **rows)
    for name, value in (
        ("rms_norm_eps", config.rms_norm_eps),
        ("rope_theta", (config.rope_parameters or {}).get("rope_theta")),
        ("max_position_embeddings", config.max_position_embeddings),
    ):
        # Each would show as answers that make no sense, or none; what is no number is refused above
        # or below.
        if isinstance(value, int | float) and not 0 < value < math.inf:
            raise InvalidRequestError(
                f"{where}: {name} in config.json must be a finite number above 0, got "
                f"{shown(value)}"
            )
    if not isinstance(config.eos_token_id, int):
        raise UnsupportedError(
            f"{where}: eos_token_id must be one token, got {shown(config.eos_token_id)}"
        )
    return config


def empty_llama(config: LlamaConfig, *, where: str) -> LlamaForCausalLM:
    """Return the decoder on the meta device, for `groundserve.weights.tensors.filled_module`."""
    try:
        with torch.device("meta"):
            return LlamaForCausalLM(config)
    except Exception as error:  # of PyTorch and transformers, of many kinds
        raise no_decoder(where, "Llama", error) from error


def llama_files(directory: Path) -> list[Path]:
    """Return the files of a base that decide what it computes."""
    side = [directory / name for name in _SIDE_FILES if (directory / name).is_file()]
    return [*side, *all_weight_files(directory)]


def is_llama_weight(name: str) -> bool:
    """Tell whether a tensor of a file is one of the decoder's."""
    # Older releases of transformers saved the rotary frequencies, rounded to float16.
    return not name.endswith("rotary_emb.inv_freq")
