"""What compiled layers and the faster kernel order give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.models import Bench, random_request, relative_error
from benchmarks.gpu.report import NotRun, PartResult
from benchmarks.gpu.speed import KERNEL_ORDERS, kernel_order, measure_reference, measure_request
from benchmarks.gpu.timing import is_gpu, time_call, time_once
from python_backend.arrays import to_torch
from python_backend.cuda import KernelOrder, compile_layers, fused_kernels

_NO_GPU = NotRun("needs a GPU")
_VISION_FRAMES = 64


def measure_compilation(bench: Bench) -> PartResult:
    """Time both models and the main request with compiled layers and the faster kernel order."""
    if not is_gpu(bench.device):
        return _NO_GPU
    calls = _model_calls(bench)
    rows: dict[str, Any] = {}
    with kernel_order(_faster_order(bench)) as order:
        with torch.inference_mode(), fused_kernels():
            eager = {name: time_call(call, bench.device) for name, call in calls.items()}
            expected = {name: call().float() for name, call in calls.items()}
            with compiled(bench):
                for name, call in calls.items():
                    rows[name] = {
                        "eager_ms": eager[name],
                        "first_call_ms": time_once(call, bench.device),
                        "compiled_ms": time_call(call, bench.device),
                        "relative_difference": relative_error(call(), expected[name]),
                    }
        with compiled(bench):
            rows["main request"] = measure_request(bench, bench.size.main_frames)
    return {"kernel_order": order, **rows}


def measure_tuned_reference(bench: Bench) -> PartResult:
    """Time the reference beside ours with compiled layers and the faster kernel order."""
    if not is_gpu(bench.device):
        return _NO_GPU
    with kernel_order(_faster_order(bench)) as order, compiled(bench):
        return {"kernel_order": order, **measure_reference(bench)}


@contextmanager
def compiled(bench: Bench) -> Iterator[None]:
    """Run both models with compiled layers."""
    layers = [*bench.grounding.decoder.layers, *bench.vision.encoder.layers]
    compile_layers(layers)
    try:
        yield
    finally:
        for layer in layers:  # what `compile` sets; there is no public way back
            layer._compiled_call_impl = None


def _faster_order(bench: Bench) -> KernelOrder:
    call = _model_calls(bench)["decoder"]
    times: dict[KernelOrder, float] = {}
    for order in KERNEL_ORDERS:
        with kernel_order(order), torch.inference_mode(), fused_kernels():
            times[order] = time_call(call, bench.device, seconds=3.0)
    return min(times, key=lambda order: times[order])


def _model_calls(bench: Bench) -> dict[str, Callable[[], Tensor]]:
    """Return one pass of each model over inputs that stay where they are."""
    size, device = bench.size, torch.device(bench.device)
    request = random_request(size, size.main_frames, device=bench.device)
    features = to_torch(bench.encode(request), device).to(bench.dtype)
    text_ids = to_torch(request.text_ids, device)
    piece = request.frames[:_VISION_FRAMES]
    pool = to_torch(request.pooling, device).expand(len(piece), -1, -1)
    return {
        "decoder": partial(bench.grounding, features, text_ids),
        "vision": partial(bench.vision, piece, pool),
    }
