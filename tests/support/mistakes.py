"""What could be wrong with a model: each function makes one mistake in a float64 model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.support.exact import Float64Model, decode, exact, kept_text_ids, open_float64
from tests.support.reference import ReferenceCase
from tests.support.rounding import exactly


def tower_gelu_by_erf(model: Float64Model) -> None:
    for layer in model.vision.encoder.layers:
        layer.mlp.activation_fn = nn.GELU()


def projector_gelu_by_tanh(model: Float64Model) -> None:
    model.grounding.projector[1] = nn.GELU("tanh")


def causal_mask(model: Float64Model) -> None:
    def mask(module, args, kwargs):
        n = kwargs["inputs_embeds"].shape[1]
        hidden = torch.full((1, 1, n, n), -torch.inf, dtype=torch.float64).triu(1)
        return args, {**kwargs, "attention_mask": {"full_attention": hidden}}

    model.grounding.decoder.register_forward_pre_hook(mask, with_kwargs=True)


def last_position_shifted(model: Float64Model) -> None:
    def shift(module, args, kwargs):
        positions = torch.arange(kwargs["inputs_embeds"].shape[1])
        positions[-1] += 1
        return args, {**kwargs, "position_ids": positions.unsqueeze(0)}

    model.grounding.decoder.register_forward_pre_hook(shift, with_kwargs=True)


def without(path: str) -> Callable[[Float64Model], None]:
    def drop(model: Float64Model) -> None:
        part, name = path.split(".", 1)
        getattr(model, part).get_parameter(name).data.zero_()

    drop.__name__ = f"no_{path}"
    return drop


MISTAKES = [
    tower_gelu_by_erf,
    projector_gelu_by_tanh,
    causal_mask,
    last_position_shifted,
    # Not the tower's key bias: without rotation it adds the same to all scores of a row.
    *map(
        without,
        [
            "vision.embeddings.patch_embedding.bias",
            "vision.encoder.layers.0.self_attn.q_proj.bias",
            "vision.encoder.layers.0.self_attn.v_proj.bias",
            "vision.encoder.layers.0.mlp.fc1.bias",
            "grounding.projector.0.bias",
            "grounding.projector.2.bias",
            "grounding.decoder.layers.0.self_attn.q_proj.bias",
            "grounding.decoder.layers.0.self_attn.k_proj.bias",
            "grounding.decoder.layers.0.self_attn.v_proj.bias",
            "grounding.head.bias",
        ],
    ),
]


def miss(mistake: Callable[[Float64Model], None], case: ReferenceCase, clip: Path) -> float:
    """Return how far the wrong model's logits lie off, in units of the bound on rounding."""
    expected = exact(case, clip)
    model = copy.deepcopy(open_float64(case.checkpoint))
    mistake(model)
    frames = decode(clip, tuple(case.frame_indices), model.vision.image_size)
    features = exactly(model.features, frames)
    logits = exactly(model.logits, features, kept_text_ids(case))
    return float(np.abs(logits - expected.logits).max() / expected.bound)
