"""What 8-bit products would save: the models with every product of a layer in E4M3.

Times only. Weights are noise and each input's scale is the largest value of the first request, so
the error says how 8 bits round noise and nothing about the released model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.models import Bench, random_request, relative_error
from benchmarks.gpu.report import NotRun, PartResult
from benchmarks.gpu.speed import measure_request
from benchmarks.gpu.timing import is_gpu
from benchmarks.gpu.variants import compiled, guarded

_E4M3 = torch.float8_e4m3fn
_LARGEST = torch.finfo(_E4M3).max
_MIN_CAPABILITY = (8, 9)


class Fp8Linear(nn.Module):
    """A linear layer with weight and input in E4M3, one scale for each."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight_scale = _scale_of(linear.weight)
        self.weight = _to_e4m3(linear.weight, self.weight_scale)  # (out, in)
        self.bias = None if linear.bias is None else linear.bias.to(torch.bfloat16)
        self.input_scale: Tensor | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) -> (..., out) in the inputs' dtype; the first call fixes the input's scale."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        if self.input_scale is None:
            self.input_scale = _scale_of(rows)
        product: Tensor = torch._scaled_mm(
            _to_e4m3(rows, self.input_scale),
            self.weight.t(),
            scale_a=self.input_scale,
            scale_b=self.weight_scale,
            bias=self.bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        return product.reshape(*inputs.shape[:-1], -1).to(inputs.dtype)


def measure_fp8(bench: Bench) -> PartResult:
    """Time the main request with 8-bit products, layers as they are and compiled."""
    if is_gpu(bench.device) and torch.cuda.get_device_capability(bench.device) < _MIN_CAPABILITY:
        return NotRun("8-bit products need sm_89 or later")
    num_frames = bench.size.main_frames
    request = random_request(bench.size, num_frames, device=bench.device)
    features = bench.encode(request)
    logits = bench.ground(features, request)
    with fp8_layers(bench):
        rows: dict[str, Any] = {
            "weights": "noise; the errors say nothing about a trained model",
            "feature_relative_error": relative_error(bench.encode(request), features),
            "logit_relative_error": relative_error(bench.ground(features, request), logits),
            "eager": measure_request(bench, num_frames),
        }
        if is_gpu(bench.device):
            with compiled(bench):
                # Its failure must not take the row above with it.
                rows["compiled"] = guarded(partial(measure_request, bench, num_frames))
    return rows


@contextmanager
def fp8_layers(bench: Bench) -> Iterator[None]:
    """Replace every linear layer inside the tower's and the decoder's layers."""
    assert bench.stages  # makes the models
    layers = [*bench.vision.encoder.layers, *bench.grounding.decoder.layers]
    replaced = [
        (parent, name, child)
        for layer in layers
        for parent in layer.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
    with torch.inference_mode():
        for parent, name, child in replaced:
            setattr(parent, name, Fp8Linear(child))
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


def _scale_of(tensor: Tensor) -> Tensor:
    """Return float32 (), what the tensor is divided by to fill E4M3's range."""
    return tensor.detach().abs().max().to(torch.float32).clamp(min=1e-12) / _LARGEST


def _to_e4m3(tensor: Tensor, scale: Tensor) -> Tensor:
    return (tensor.to(torch.float32) / scale).clamp(-_LARGEST, _LARGEST).to(_E4M3)
