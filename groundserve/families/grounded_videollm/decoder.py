"""The decoder as the last stage left it: grown tables, a head with a bias, an adapter to merge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from groundserve.errors import UnsupportedError
from groundserve.families.grounded_videollm.layout import Angles
from groundserve.families.grounded_videollm.spec import Llm
from groundserve.families.llama import no_decoder, read_decoder_config
from groundserve.families.rotary import RotaryTables
from groundserve.strict_json import shown

# Each by what model_type may be: a folder may have kept the config of the whole model.
_KINDS: Mapping[Llm, tuple[tuple[str, ...], Any, Any]] = {
    "phi3.5": (("phi3", "phi3_v"), Phi3Config, Phi3ForCausalLM),
    "llama3": (("llama",), LlamaConfig, LlamaForCausalLM),
}
_WHERE = "the part base"
_ANGLES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def decoder_config(raw: Mapping[str, Any], llm: Llm, *, vocab_size: int) -> Any:
    """Read the config.json of the decoder before its tables grew to `vocab_size` rows.

    Returns:
        A `Phi3Config` or a `LlamaConfig`.
    """
    model_types, config_type, _ = _KINDS[llm]
    if raw.get("model_type") not in model_types:
        raise UnsupportedError(
            f"{_WHERE}: model_type must be {model_types[0]}, as {llm} has, "
            f"got {shown(raw.get('model_type'))}"
        )
    grown = {"vocab_size": vocab_size, "tie_word_embeddings": False}
    config = read_decoder_config(raw, config_type, where=_WHERE, name=llm, **grown)
    window = getattr(config, "sliding_window", None)
    is_window = isinstance(window, int) and window >= config.max_position_embeddings
    if window is not None and not is_window:
        raise UnsupportedError(
            f"{_WHERE}: sliding_window must be no smaller than max_position_embeddings, "
            f"{config.max_position_embeddings}, got {shown(window)}"
        )
    if window is not None:  # which nothing reaches
        config.sliding_window = None
    return config


def empty_decoder(config: Any, llm: Llm, *, angles: Angles) -> Any:
    """Return a causal model of transformers on the meta device, its head with a bias.

    Args:
        config: Of `decoder_config`.
        llm: Which decoder.
        angles: In which arithmetic positions are rotated.
    """
    try:
        tables = RotaryTables.of(config, angles=_ANGLES[angles])
        with torch.device("meta"):
            model = _KINDS[llm][2](config)
            model.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=True)
    except (RuntimeError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise no_decoder(_WHERE, llm, error) from error
    model.model.rotary_emb = tables
    return model
