"""The decoder as the last stage left it: grown tables, a head with a bias, an adapter to merge."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.grounded_videollm.layout import Angles
from groundserve.families.grounded_videollm.spec import Llm
from groundserve.rotary import RotaryTables
from groundserve.strict_json import shown

_KINDS: Mapping[Llm, tuple[str, Any, Any]] = {
    "phi3.5": ("phi3", Phi3Config, Phi3ForCausalLM),
    "llama3": ("llama", LlamaConfig, LlamaForCausalLM),
}
_ANGLES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What a config.json says of how it was run, perhaps by kernels that are not installed.
_OF_A_RUN = frozenset({"_attn_implementation", "attn_implementation"})


def decoder_config(raw: Mapping[str, Any], llm: Llm, *, vocab_size: int) -> Any:
    """Read the decoder's config.json.

    Args:
        raw: As parsed, of the decoder before its tables grew.
        llm: Which decoder it is to be.
        vocab_size: Rows of the tables now.

    Returns:
        A `Phi3Config` or a `LlamaConfig`.

    Raises:
        InvalidRequestError: It describes no such decoder.
        UnsupportedError: It is of another one, or its attention has a window.
    """
    model_type, config_type, _ = _KINDS[llm]
    if raw.get("model_type") != model_type:
        raise UnsupportedError(
            f"the part base: model_type must be {model_type}, as {llm} has, "
            f"got {shown(raw.get('model_type'))}"
        )
    kept = {name: value for name, value in raw.items() if name not in _OF_A_RUN}
    try:
        with _quiet_rotary():
            config = config_type.from_dict(
                {
                    **kept,
                    "vocab_size": vocab_size,
                    # Of batches, and perhaps no row of the table.
                    "pad_token_id": None,
                    "tie_word_embeddings": False,
                }
            )
    except Exception as error:  # of transformers, whose kinds differ from version to version
        raise _no_decoder(llm, error) from error
    window = getattr(config, "sliding_window", None)
    is_window = isinstance(window, int) and window >= config.max_position_embeddings
    if window is not None and not is_window:
        raise UnsupportedError(
            "the part base: sliding_window must be no smaller than max_position_embeddings, "
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

    Raises:
        InvalidRequestError: There is none of these sizes.
        UnsupportedError: Positions are rotated in another way than this code computes.
    """
    try:
        tables = RotaryTables.of(config, angles=_ANGLES[angles])
        with torch.device("meta"):
            model = _KINDS[llm][2](config)
            model.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=True)
    except (RuntimeError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise _no_decoder(llm, error) from error
    model.model.rotary_emb = tables
    return model


def _no_decoder(llm: Llm, error: Exception) -> InvalidRequestError:
    # In one line: those of transformers have several.
    reason = " ".join(str(error).split())
    return InvalidRequestError(f"the part base: config.json describes no {llm}: {reason}")


@contextmanager
def _quiet_rotary() -> Iterator[None]:
    """Keep transformers from advising how to write the lengths of a config that is not ours."""
    logger = logging.getLogger("transformers.modeling_rope_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
