"""A small causal decoder with random weights, of the kind that text families have."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

VOCAB_SIZE = 96
WIDTH = 64
MAX_POSITIONS = 256


def tiny_llama(*, num_layers: int = 2, num_kv_heads: int = 2) -> LlamaForCausalLM:
    """Return one in float32, its weights large enough that answers wander."""
    config = LlamaConfig(
        hidden_size=WIDTH,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=num_kv_heads,
        intermediate_size=160,
        vocab_size=VOCAB_SIZE,
        max_position_embeddings=MAX_POSITIONS,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(20261123)
        model = LlamaForCausalLM(config).eval()
        for weight in model.parameters():
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, std=0.2)
    return model.requires_grad_(False)
