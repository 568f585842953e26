"""A causal decoder rounded to 4 bits, in PyTorch: what an engine in int4 may cost.

An implementation of its own, after the definition of ONNX Runtime's `MatMulNBits` with symmetric
blocks and accuracy level 4: it knows nothing of the engine's graph.

Source: microsoft/onnxruntime, `docs/ContribOperators.md`, `com.microsoft.MatMulNBits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 32
"""Inputs of an output channel that share a scale."""


def round_decoder(model: PreTrainedModel, *, inputs: bool = True) -> None:
    """Round every linear layer in place: its weights to 4 bits, what comes in to 8.

    Sums are taken in float32.

    Args:
        model: In float32.
        inputs: Whether what comes in is rounded, too.
    """
    for layer in [one for one in model.modules() if isinstance(one, nn.Linear)]:
        layer.weight = nn.Parameter(_round_weight(layer.weight), requires_grad=False)
        if inputs:
            layer.register_forward_pre_hook(_round_input)


def _round_weight(weight: Tensor) -> Tensor:
    """Round (out, in) to steps of each block from -8 to 7, of which -8 is its largest value."""
    blocks = _blocks(weight.detach())
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scale = largest / -8
    return _whole(_steps(blocks, scale).clamp(-8, 7) * scale, weight)


def _round_input(_: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Round (..., in) to steps of each block from -127 to 127."""
    (rows,) = args
    blocks = _blocks(rows)
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    return (_whole(_steps(blocks, scale) * scale, rows),)


def _steps(blocks: Tensor, scale: Tensor) -> Tensor:
    # A block of zeros has no scale.
    return torch.where(scale == 0, 0, blocks / scale).round()


def _blocks(rows: Tensor) -> Tensor:
    """(..., in) -> (..., blocks, BLOCK), the last filled up with zeros."""
    return F.pad(rows, (0, -rows.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))


def _whole(blocks: Tensor, like: Tensor) -> Tensor:
    return blocks.flatten(-2)[..., : like.shape[-1]]
