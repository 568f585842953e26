"""What a GPU must judge before the vision plan may have it, each with the error that it may make.

`residual` keeps the stream between layers in 16 bit: half the bytes of every norm and sum.
`patches` projects patches in 16 bit, with the pixels' normalisation in its weights and offset.
`widths` pads heads of 72 to 80 and the MLP's 4304 to 4352, sizes that kernels are made for; the
added rows and columns are zeros, and the scale of the softmax stays 72**-0.5.

None of them is in any profile. Shape letters as in
`engine_build.families.videoitg.mixed_precision`.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu.models import Bench, random_request, random_vision, relative_error
from benchmarks.gpu.report import NotRun, PartResult
from benchmarks.gpu.timing import is_gpu, time_call
from benchmarks.gpu.variants import guarded
from benchmarks.gpu.vision_inputs import vision_inputs
from engine_build.families.videoitg.mixed_precision import MixedVisionEncoder
from groundserve.families.videoitg.vision import VisionEncoder
from groundserve.manifest import CHUNK_FRAMES
from python_backend.arrays import to_torch
from python_backend.cuda import compile_layers, fused_kernels

HEAD_MULTIPLE = 16
MLP_MULTIPLE = 128
_BRANCH_ROUNDINGS = 7
_PATCH_ROUNDINGS = 2
_ERROR_FRAMES = 8


def keep_residual_in_16_bit(encoder: MixedVisionEncoder) -> None:
    """Let the stream between layers have the dtype of the products."""
    embed, dtype = encoder.embed_patches, products_dtype(encoder)

    def rounded(pixels: Tensor) -> Tensor:
        return embed(pixels).to(dtype)

    encoder.embed_patches = rounded  # type: ignore[method-assign] # a variant of one object


def project_patches_in_16_bit(encoder: MixedVisionEncoder) -> None:
    """Fold ``x / 127.5 - 1`` into the projection and multiply in the dtype of the products.

    Of ``x / 127.5 - 1 = (x - 128) / 128 * (128 / 127.5) + 0.5 / 127.5`` the first factor is exact
    in 16 bit and the rest goes into weights and offset. Folded as it stands, with the bytes
    themselves as factors, the mean of a patch would be multiplied first and subtracted after it was
    rounded.
    """
    dtype = products_dtype(encoder)
    weight = (encoder.patch_weight * (128 / 127.5)).to(dtype)  # (D_v, p*p*3)
    # From the weights as they were rounded: an even grey stays where it was.
    offset = encoder.patch_bias + weight.to(torch.float32).sum(dim=1) * (0.5 / 128)
    encoder.register_buffer("folded_weight", weight)
    encoder.register_buffer("folded_offset", offset + encoder.positions)  # float32 (P, D_v)

    def embed(pixels: Tensor) -> Tensor:
        patches = encoder.cut_patches((pixels.to(dtype) - 128) / 128)
        product = F.linear(patches, encoder.folded_weight)
        return product.to(torch.float32) + encoder.folded_offset

    encoder.embed_patches = embed  # type: ignore[method-assign] # a variant of one object


def pad_widths(encoder: MixedVisionEncoder) -> None:
    """Pad the head size to a multiple of 16 and the MLP's width to one of 128 with zeros."""
    for layer in encoder.layers:
        heads, out, up, down = layer.num_heads, layer.out, layer.up, layer.down
        more = -(out.weight.shape[1] // heads) % HEAD_MULTIPLE
        layer.qkv.weight = _frozen(_pad_heads(layer.qkv.weight, 3 * heads, more))
        layer.qkv.bias = _frozen(_pad_heads(layer.qkv.bias, 3 * heads, more))
        out.weight = _frozen(_pad_heads(out.weight.T, heads, more).T.contiguous())
        more = -up.weight.shape[0] % MLP_MULTIPLE
        up.weight, up.bias = _frozen(_pad_rows(up.weight, more)), _frozen(_pad_rows(up.bias, more))
        down.weight = _frozen(_pad_rows(down.weight.T, more).T.contiguous())


Change = Callable[[MixedVisionEncoder], None]
VARIANTS: dict[str, tuple[Change, ...]] = {
    "as shipped": (),
    "residual": (keep_residual_in_16_bit,),
    "patches": (project_patches_in_16_bit,),
    "widths": (pad_widths,),
    "all three": (project_patches_in_16_bit, keep_residual_in_16_bit, pad_widths),
}
"""Changes to the encoder of each variant, in the order in which they are made."""


def make_variant(model: VisionEncoder, name: str, *, dtype: torch.dtype) -> MixedVisionEncoder:
    """Return the encoder of a plan, or of a variant of it.

    Args:
        model: Weights.
        name: One of `VARIANTS`.
        dtype: Of the products.
    """
    encoder = MixedVisionEncoder(model, dtype=dtype)
    for change in VARIANTS[name]:
        change(encoder)
    return encoder


def error_bound(name: str, *, num_layers: int, dtype: torch.dtype) -> float:
    """Return the largest error of features that a variant may have, as `relative_error` takes it.

    Every rounding errs by at most u, the unit roundoff, of what it rounds. Roundings are taken as
    independent, and the 2 L branches as of one size, so that after l of them the stream is
    sqrt(l / 2 L) of what it will be, and a branch sqrt(1 / 2 L). A branch has 7 roundings in series
    (attention: normed input, weight, product, probabilities, their product, weight, product), which
    add up to 7 u^2 over all branches. A stream that is rounded after each adds sum(l / 2 L) u^2,
    about L u^2. The patches' weight and product are rounded once each. Padding adds nothing.
    """
    changes = VARIANTS[name]
    roundings = _BRANCH_ROUNDINGS
    roundings += num_layers * (keep_residual_in_16_bit in changes)
    roundings += _PATCH_ROUNDINGS * (project_patches_in_16_bit in changes)
    return unit_roundoff(dtype) * math.sqrt(roundings)


def unit_roundoff(dtype: torch.dtype) -> float:
    """Return the largest relative error of a rounding to nearest."""
    return torch.finfo(dtype).eps / 2


def products_dtype(encoder: MixedVisionEncoder) -> torch.dtype:
    """Return the dtype of the encoder's products."""
    dtype: torch.dtype = encoder.layers[0].qkv.weight.dtype
    return dtype


def measure_vision_variants(bench: Bench) -> PartResult:
    """Hold each variant's features against float32 and its bound, and time it in PyTorch."""
    dtype = torch.bfloat16
    vision = random_vision(bench.size, dtype=dtype, device=bench.device)
    pixels, pool = _inputs(bench, CHUNK_FRAMES)
    few = pixels[:_ERROR_FRAMES], pool[:_ERROR_FRAMES]
    rows: dict[str, Any] = {}
    with torch.inference_mode(), fused_kernels() if is_gpu(bench.device) else nullcontext():
        expected = copy.deepcopy(vision).to(torch.float32)(*few)
        for name in VARIANTS:
            encoder = make_variant(vision, name, dtype=dtype)
            call = partial(encoder, pixels, pool)
            rows[name] = {
                **_judged(encoder(*few), expected, name, num_layers=len(encoder.layers)),
                "frames": len(pixels),
                "eager_ms": time_call(call, bench.device, seconds=3.0),
            }
            if is_gpu(bench.device):
                compile_layers(encoder.layers)
                rows[name]["compiled"] = guarded(partial(_time, call, bench.device))
    return {"against": "float32 PyTorch on the device", "dtype": str(dtype), **rows}


def measure_vision_plan(bench: Bench, name: str) -> PartResult:
    """Build a variant's plan for this GPU, hold its features against float32, and time it."""
    if not is_gpu(bench.device):
        return NotRun("needs a GPU")
    from engine_build.onnx_tensorrt import export_mixed_vision_encoder
    from engine_build.tensorrt_plan import build_plan, vision_shapes
    from groundserve.errors import UnsupportedError
    from groundserve.gpu import current_gpu_arch
    from groundserve.tensorrt_library import TensorRTTarget
    from python_backend.tensorrt_runtime import PlanRunner

    try:
        target = TensorRTTarget.choose()
    except UnsupportedError:
        try:
            target = TensorRTTarget.choose((current_gpu_arch() or "",))
        except UnsupportedError as error:
            return NotRun(str(error))
    vision = random_vision(bench.size, dtype=torch.bfloat16, device="cpu")
    encoder = make_variant(vision, name, dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as scratch:
        graph, plan = Path(scratch) / "vision.onnx", Path(scratch) / "vision.plan"
        inputs, usual = vision_inputs(encoder)
        export_mixed_vision_encoder(encoder, graph, inputs)
        shapes = vision_shapes(inputs, usual)
        num_layers = len(encoder.layers)
        built = build_plan(graph, plan, target=target, shapes=shapes, num_layers=num_layers)
        runner = PlanRunner(plan, target)
    pixels, pool = _inputs(bench, CHUNK_FRAMES)
    few = pixels[:_ERROR_FRAMES], pool[:_ERROR_FRAMES].contiguous()
    with torch.inference_mode():
        expected = vision.to(bench.device, torch.float32)(*few)
    got = runner.run({"PIXELS": few[0], "POOL": few[1]})["FEATURES"]
    whole = {"PIXELS": pixels, "POOL": pool.contiguous()}
    return {
        "against": "float32 PyTorch on the device",
        "library": built.library,
        "num_kernels": built.num_kernels,
        "build_seconds": built.build_seconds,
        **_judged(got, expected, name, num_layers=num_layers),
        "frames": len(pixels),
        **_time(partial(runner.run, whole), bench.device),
    }


def _judged(got: Tensor, expected: Tensor, name: str, *, num_layers: int) -> dict[str, Any]:
    error = relative_error(got, expected)
    bound = error_bound(name, num_layers=num_layers, dtype=torch.bfloat16)
    return {"relative_error": error, "error_bound": bound, "within_bound": error <= bound}


def _inputs(bench: Bench, num_frames: int) -> tuple[Tensor, Tensor]:
    request = random_request(bench.size, num_frames, device=bench.device)
    pool = to_torch(request.pooling, torch.device(bench.device))
    return request.frames, pool.expand(num_frames, -1, -1)


def _time(call: Callable[[], Any], device: str) -> dict[str, float]:
    return {"median_ms": time_call(call, device, seconds=5.0)}


def _pad_heads(packed: Tensor, num_heads: int, more: int) -> Tensor:
    """(H * h, ...) -> (H * (h + more), ...)."""
    heads = packed.unflatten(0, (num_heads, -1))
    zeros = heads.new_zeros(num_heads, more, *heads.shape[2:])
    return torch.cat([heads, zeros], dim=1).flatten(0, 1)


def _pad_rows(tensor: Tensor, more: int) -> Tensor:
    return torch.cat([tensor, tensor.new_zeros(more, *tensor.shape[1:])])


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
