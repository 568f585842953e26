"""Models with their layers rounded in PyTorch: what an engine in int8 or int4 may cost.

An implementation of its own, after the definitions of `engine_build.onnx_int8` and
`engine_build.decoder_export`: it knows nothing of the engines' graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from groundserve.families.modules import VisionModule
from groundserve.families.vision_inputs import take_units
from python_backend.arrays import to_host
from python_backend.encode.torch import TorchEncoder

_BLOCK = 32
"""Values of int4 that share a scale, along what a product sums over."""

_Round = Callable[[Tensor], Tensor]


def encode_rounded(vision: VisionModule, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return (U, P, D) of the stage in int8.

    Weights get one scale for each output channel; what comes into a layer, one scale and zero point
    for all of a unit. Sums are taken in float32, as the stage is, which is changed.
    """
    _round_layers(vision, _weight_in_8_bits, _input_in_8_bits)
    encoder = TorchEncoder(vision)
    features = [  # one unit at a time
        to_host(encoder.encode(*take_units(inputs, slice(unit, unit + 1))))
        for unit in range(len(inputs[0]))
    ]
    return np.concatenate(features)


def round_decoder(model: nn.Module) -> None:
    """Round the linear layers of a decoder to int4, its head among them.

    Weights get -8..7 steps, the block's largest magnitude being 8 of them on its side; what comes
    into a layer, -127..127. Sums are taken in float32, as the model is, which is changed.
    """
    _round_layers(model, _weight_in_4_bits, _input_in_blocks)


def _round_layers(model: nn.Module, round_weight: _Round, round_input: _Round) -> None:
    def before(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return round_input(*inputs)

    for layer in [one for one in model.modules() if isinstance(one, nn.Linear)]:
        layer.weight = nn.Parameter(round_weight(layer.weight.detach()), requires_grad=False)
        layer.register_forward_pre_hook(before)


def _weight_in_8_bits(weight: Tensor) -> Tensor:
    """Round (out, in) to -127..127 steps of each output channel."""
    largest = weight.abs().amax(dim=1)
    scale = torch.where(largest > 0, largest / 127, 1.0)
    zero_point = torch.zeros(len(scale), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(
        weight, scale, zero_point, axis=0, quant_min=-127, quant_max=127
    )


def _input_in_8_bits(inputs: Tensor) -> Tensor:
    """Round to 256 steps between the smallest and the largest, 0 among them."""
    low, high = inputs.amin().clamp(max=0), inputs.amax().clamp(min=0)
    scale = torch.where(high > low, (high - low) / 255, 1.0)
    zero_point = (-low / scale).round().to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(inputs, scale, zero_point, 0, 255)


def _weight_in_4_bits(weight: Tensor) -> Tensor:
    blocks = _blocks(weight)
    place = blocks.abs().argmax(dim=-1, keepdim=True)
    scale = blocks.gather(-1, place) / -8  # of either sign: -8 is the largest magnitude there is
    steps = (blocks / _divisor(scale)).round().clamp(-8, 7)
    return _joined(steps * scale, like=weight)


def _input_in_blocks(inputs: Tensor) -> Tensor:
    blocks = _blocks(inputs)
    scale = blocks.abs().amax(dim=-1, keepdim=True) / 127
    return _joined((blocks / _divisor(scale)).round() * scale, like=inputs)


def _divisor(scale: Tensor) -> Tensor:
    """Return the scale, 1 where it is 0, as in a block of zeros."""
    return torch.where(scale == 0, 1.0, scale)


def _blocks(values: Tensor) -> Tensor:
    """Return (..., k) as (..., blocks, 32), filled up with zeros."""
    filled = pad(values, (0, -values.shape[-1] % _BLOCK))
    return filled.reshape(*filled.shape[:-1], -1, _BLOCK)


def _joined(blocks: Tensor, *, like: Tensor) -> Tensor:
    return blocks.flatten(-2)[..., : like.shape[-1]]
