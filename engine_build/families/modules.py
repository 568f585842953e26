"""The stages of a family as TensorRT engines compute them, in PyTorch."""

from __future__ import annotations

import torch
from torch import nn


class MixedVisionModule(nn.Module):
    """The vision stage: `forward(*streams, *plan inputs)` -> 16-bit (U, P, D)."""

    layers: nn.ModuleList
    """Layers that hold attention."""


class TokenScorerModule(nn.Module):
    """The decoder and head: (S, `hidden_size`) in `dtype` -> float32 (S,), S <= `max_tokens`.

    The logit of a frame is the mean over its tokens.
    """

    layers: nn.ModuleList
    """Layers that hold attention."""
    dtype: torch.dtype
    hidden_size: int
    max_tokens: int
