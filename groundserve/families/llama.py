"""Decoders as transformers has them: config.json, whichever release wrote it, and empty models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.runtime.quiet import errors_alone
from groundserve.strict_json import shown
from groundserve.weights.tensors import check_num_layers, weight_files

_SIDE_FILES = (
    *("config.json", "generation_config.json", "tokenizer.model", "tokenizer_config.json"),
    "special_tokens_map.json",
    *("model.safetensors.index.json", "pytorch_model.bin.index.json"),
)
# What a config.json says of how it was run, perhaps by kernels that are not installed.
_OF_A_RUN = frozenset({"_attn_implementation", "attn_implementation"})


def llama_config(
    raw: Mapping[str, Any],
    *,
    where: str,
    model_types: Sequence[str] = ("llama",),
    vocab_size: int | None = None,
) -> LlamaConfig:
    """Read a config.json of the part that errors call `where`.

    A reference may relabel what is Llama otherwise, hence `model_types`; `vocab_size` where the
    tables of tokens have not as many rows as the file says.
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


def read_decoder_config(
    raw: Mapping[str, Any], kind: type[Any], *, where: str, name: str, **replaced: Any
) -> Any:
    """Read a config of transformers; errors name the part `where` and the decoder.

    `raw` stays as it is, which transformers' own reading does not promise; what is `replaced`
    stands instead of its values.
    """
    values = {
        **{key: value for key, value in raw.items() if key not in _OF_A_RUN},
        "model_type": kind.model_type,
        # Of batches, and perhaps no row of the table.
        "pad_token_id": None,
        **replaced,
    }
    if isinstance(scaling := values.get("rope_scaling"), Mapping):
        # Until 4.43 long-RoPE was called su, which Phi-3.5-vision's published config still has;
        # transformers 5 reads the name, but then misses the length that the short list is for.
        values["rope_scaling"] = {
            key: "longrope" if key in ("type", "rope_type") and value == "su" else value
            for key, value in scaling.items()
        }
    try:
        # It advises how to write the lengths of a config that is not ours.
        with errors_alone("transformers.modeling_rope_utils"):
            return kind.from_dict(values)
    except Exception as error:  # of transformers, whose kinds differ from version to version
        raise no_decoder(where, name, error) from error


def llama_files(directory: Path) -> list[Path]:
    """Return the files of a base that decide what it computes."""
    side = [directory / name for name in _SIDE_FILES if (directory / name).is_file()]
    return [*side, *weight_files(directory, or_pickled=True)]


def is_llama_weight(name: str) -> bool:
    """Tell whether a tensor of a file is one of the decoder's."""
    # Older releases of transformers saved the rotary frequencies, rounded to float16.
    return not name.endswith("rotary_emb.inv_freq")


def no_decoder(where: str, name: str, error: Exception) -> InvalidRequestError:
    """Return an error of transformers or PyTorch as one of ours, in one line."""
    reason = " ".join(str(error).split())
    return InvalidRequestError(f"{where}: config.json describes no {name}: {reason}")
