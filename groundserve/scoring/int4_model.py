"""A decoder with its layers rounded to 4 bits, in PyTorch: what an engine in int4 may cost.

An implementation of its own, after what `engine_build.decoder_export` says of int4: it knows
nothing of the engine's graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

_BLOCK = 32
"""Values that share a scale, along what a product sums over."""


def round_decoder(model: nn.Module) -> None:
    """Round the linear layers of a decoder, its head among them.

    Weights get -8..7 steps, the block's largest magnitude being 8 of them on its side; what comes
    into a layer, -127..127. Sums are taken in float32.

    Args:
        model: In float32; is changed.
    """
    for layer in [one for one in model.modules() if isinstance(one, nn.Linear)]:
        layer.weight = nn.Parameter(_round_weight(layer.weight.detach()), requires_grad=False)
        layer.register_forward_pre_hook(_round_input)


def _round_weight(weight: Tensor) -> Tensor:
    blocks = _blocks(weight)
    place = blocks.abs().argmax(dim=-1, keepdim=True)
    scale = blocks.gather(-1, place) / -8  # of either sign: -8 is the largest magnitude there is
    steps = (blocks / _divisor(scale)).round().clamp(-8, 7)
    return _joined(steps * scale, like=weight)


def _round_input(_: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    (inputs,) = args
    blocks = _blocks(inputs)
    scale = blocks.abs().amax(dim=-1, keepdim=True) / 127
    return (_joined((blocks / _divisor(scale)).round() * scale, like=inputs),)


def _divisor(scale: Tensor) -> Tensor:
    """Return the scale, 1 where it is 0, as in a block of zeros."""
    return torch.where(scale == 0, 1.0, scale)


def _blocks(values: Tensor) -> Tensor:
    """Return (..., k) as (..., blocks, 32), filled up with zeros."""
    return pad(values, (0, -values.shape[-1] % _BLOCK)).unflatten(-1, (-1, _BLOCK))


def _joined(blocks: Tensor, *, like: Tensor) -> Tensor:
    return blocks.flatten(-2)[..., : like.shape[-1]]
