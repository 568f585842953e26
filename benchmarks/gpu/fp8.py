"""What 8-bit products would save: the models with every product of a layer in E4M3.

Times, and whether the arithmetic is what it should be. Weights are noise and each input's scale is
the largest value of the first request, so the error says how 8 bits round noise and nothing about
the released model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP

from benchmarks.gpu.models import Bench, random_request, relative_error
from benchmarks.gpu.report import NotRun, PartResult
from benchmarks.gpu.speed import measure_request
from benchmarks.gpu.timing import is_gpu
from benchmarks.gpu.variants import compiled, guarded

_E4M3 = torch.float8_e4m3fn
_LARGEST = torch.finfo(_E4M3).max
_MIN_CAPABILITY = (8, 9)
_ROUNDINGS = 4
ERROR_BOUND = _ROUNDINGS**0.5 * torch.finfo(_E4M3).eps / 2
"""Largest relative error of features and logits. A branch has two products in series, each of a
rounded weight and a rounded input, so four independent roundings, each by at most the unit roundoff
of E4M3, 2^-4; what 16 bits round on the way is a sixteenth of that. See
`benchmarks.gpu.vision_variants.error_bound` for how branches add up."""


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


class Fp8SwiGLU(nn.Module):
    """Qwen2's MLP with gate and up as one 8-bit product of twice the width.

    Compiled, what follows can be one kernel: SiLU, the product of both halves and its rounding to
    E4M3, which then is all that reaches memory before the product down.
    """

    def __init__(self, mlp: Qwen2MLP) -> None:
        super().__init__()
        width, wide = mlp.gate_proj.in_features, mlp.gate_proj.out_features
        with torch.device("meta"):
            joined = nn.Linear(width, 2 * wide, bias=False)
        weight = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        joined.weight = nn.Parameter(weight, requires_grad=False)
        self.gate_up, self.down = Fp8Linear(joined), Fp8Linear(mlp.down_proj)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., D) -> the same."""
        gate, up = self.gate_up(hidden_states).chunk(2, dim=-1)
        projected: Tensor = self.down(F.silu(gate) * up)
        return projected


def measure_fp8(bench: Bench, fuse_swiglu: bool) -> PartResult:
    """Time the main request with 8-bit products, layers as they are and compiled.

    Args:
        bench: Models and device.
        fuse_swiglu: Whether the decoder's MLP is `Fp8SwiGLU`, or three products as in PyTorch.
    """
    if is_gpu(bench.device) and torch.cuda.get_device_capability(bench.device) < _MIN_CAPABILITY:
        return NotRun("8-bit products need sm_89 or later")
    num_frames = bench.size.main_frames
    request = random_request(bench.size, num_frames, device=bench.device)
    features = bench.encode(request)
    logits = bench.ground(features, request)
    with fp8_layers(bench, fuse_swiglu=fuse_swiglu):
        errors = {
            "feature_relative_error": relative_error(bench.encode(request), features),
            "logit_relative_error": relative_error(bench.ground(features, request), logits),
        }
        rows: dict[str, Any] = {
            "weights": "noise; the errors say nothing about a trained model",
            **errors,
            "error_bound": ERROR_BOUND,
            "within_bound": max(errors.values()) <= ERROR_BOUND,
            "eager": measure_request(bench, num_frames),
        }
        if is_gpu(bench.device):
            with compiled(bench):
                # Its failure must not take the row above with it.
                rows["compiled"] = guarded(partial(measure_request, bench, num_frames))
    return rows


@contextmanager
def fp8_layers(bench: Bench, *, fuse_swiglu: bool = False) -> Iterator[None]:
    """Replace every linear layer inside the tower's and the decoder's layers."""
    assert bench.stages  # makes the models
    kinds: dict[type[nn.Module], Callable[[Any], nn.Module]] = {nn.Linear: Fp8Linear}
    if fuse_swiglu:
        kinds[Qwen2MLP] = Fp8SwiGLU
    layers = [*bench.vision.encoder.layers, *bench.grounding.decoder.layers]
    replaced = [
        (parent, name, child)
        for layer in layers
        for parent in layer.modules()
        for name, child in parent.named_children()
        if type(child) in kinds and type(parent) not in kinds
    ]
    with torch.inference_mode():
        for parent, name, child in replaced:
            setattr(parent, name, kinds[type(child)](child))
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
