"""A small decoder of Phi-3's kind: two lists of frequencies, and a head with a bias."""

from __future__ import annotations

import torch
from torch import nn
from transformers import Phi3Config, Phi3ForCausalLM

from groundserve.families.rotary import RotaryTables

VOCAB_SIZE = 96
WIDTH = 64
SWITCH = 64
MAX_POSITIONS = 256


def tiny_phi(*, switch: int = SWITCH) -> Phi3ForCausalLM:
    """Return one in float32, its weights large enough that answers wander.

    Args:
        switch: Most positions of a sequence in the first regime.
    """
    config = Phi3Config(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=160,
        vocab_size=VOCAB_SIZE,
        max_position_embeddings=MAX_POSITIONS,
        original_max_position_embeddings=switch,
        rope_scaling={
            "type": "longrope",
            "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
            "long_factor": [2.0, 2.5, 3.5, 5.0, 7.0, 9.0, 12.0, 15.0],
        },
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(20261123)
        model = Phi3ForCausalLM(config).eval()
        model.lm_head = nn.Linear(WIDTH, VOCAB_SIZE)
        for weight in model.parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.2)
        nn.init.normal_(model.lm_head.bias)
    model.model.rotary_emb = RotaryTables.of(config)
    return model.requires_grad_(False)
