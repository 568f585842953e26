"""Small decoders of Llama's kind: their files, and their words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM


def respell(decoder: LlamaForCausalLM, old: Tokenizer, pieces: Iterable[str]) -> LlamaForCausalLM:
    """Return the decoder with the vocabulary of another tokenizer.

    Rows of a piece are the means of those of the pieces that the old tokenizer has for it.
    """
    ids = [
        torch.tensor(
            [known] if known is not None else [one.id for one in old.model.tokenize(piece)]
        )
        for piece in pieces
        for known in (old.token_to_id(piece),)
    ]
    starts = torch.tensor([0, *map(len, ids)]).cumsum(0)[:-1]
    config = type(decoder.config)(**{**decoder.config.to_dict(), "vocab_size": len(ids)})
    respelled = LlamaForCausalLM(config)
    tensors = {
        name: F.embedding_bag(torch.cat(ids), tensor, starts, mode="mean")
        if name in ("model.embed_tokens.weight", "lm_head.weight")
        else tensor
        for name, tensor in decoder.state_dict().items()
    }
    respelled.load_state_dict(tensors)
    return respelled


def write_decoder(model: LlamaForCausalLM, directory: Path) -> None:
    """Write config and weights, in float16 as published for Vicuna 1.5."""
    config = {**model.config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    for name in ("_attn_implementation", "attn_implementation", "transformers_version"):
        config.pop(name, None)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
