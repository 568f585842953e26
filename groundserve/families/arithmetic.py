"""How much arithmetic a decoder takes, of which several families have one."""

from __future__ import annotations

from typing import Any


def causal_decoder_flop(config: Any, num_tokens: int) -> float:
    """Return the arithmetic of one pass through the layers of a causal decoder with a gated MLP.

    A token meets only those before it, which is half of them.
    """
    width, num_heads = config.hidden_size, config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or width // num_heads
    # Q and the output, K and V; gate, up and down.
    weights = 2 * width * head_size * (num_heads + config.num_key_value_heads)
    weights += 3 * width * config.intermediate_size
    per_token = weights + num_tokens * num_heads * head_size
    return float(2 * config.num_hidden_layers * num_tokens * per_token)
