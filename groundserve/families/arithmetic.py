"""How much arithmetic the networks take that several families have; a multiply-add is 2."""

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


def tower_flop(
    num_patches: int,
    *,
    patch_size: int,
    width: int,
    mlp_width: int,
    num_layers: int,
    num_others: int = 1,
) -> float:
    """Return the arithmetic of patches and layers of a vision transformer.

    `num_others` are positions beside patches, such as a class token's.
    """
    n = num_patches + num_others
    # Q, K, V and the output, then the two of the MLP; scores and their product with V.
    block = 2.0 * n * width * (4 * width + 2 * mlp_width) + 4.0 * n * n * width
    return num_layers * block + 2.0 * num_patches * width * 3 * patch_size**2
