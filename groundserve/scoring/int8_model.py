"""The vision stage with its layers rounded to 8 bits, in PyTorch: what an engine in int8 may cost.

An implementation of its own, after the definition of `engine_build.onnx_int8`: it knows nothing of
the engine's graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from groundserve.families.modules import VisionModule
from groundserve.families.vision_inputs import take_units


def encode_rounded(vision: VisionModule, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return (U, P, D) of the stage in int8.

    Weights get one scale for each output channel; what comes into a layer, one scale and zero point
    for all of a unit. Sums are taken in float32.

    Args:
        vision: In float32; is changed.
        inputs: As `VisionEncoder.encode` takes them.
    """
    from python_backend.arrays import to_host
    from python_backend.encode.torch import TorchEncoder

    for layer in [one for one in vision.modules() if isinstance(one, nn.Linear)]:
        layer.weight = nn.Parameter(_round_weight(layer.weight), requires_grad=False)
        layer.register_forward_pre_hook(_round_input)
    encoder = TorchEncoder(vision)
    features = [  # one unit at a time
        to_host(encoder.encode(*take_units(inputs, slice(unit, unit + 1))))
        for unit in range(len(inputs[0]))
    ]
    return np.concatenate(features)


def _round_weight(weight: Tensor) -> Tensor:
    """Round (out, in) to -127..127 steps of each output channel."""
    largest = weight.detach().abs().amax(dim=1)
    scale = torch.where(largest > 0, largest / 127, 1.0)
    zero_point = torch.zeros(len(scale), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(
        weight.detach(), scale, zero_point, axis=0, quant_min=-127, quant_max=127
    )


def _round_input(_: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Round to 256 steps between the smallest and the largest, 0 among them."""
    (inputs,) = args
    low, high = inputs.amin().clamp(max=0), inputs.amax().clamp(min=0)
    scale = torch.where(high > low, (high - low) / 255, 1.0)
    zero_point = (-low / scale).round().to(torch.int32)
    return (torch.fake_quantize_per_tensor_affine(inputs, scale, zero_point, 0, 255),)
