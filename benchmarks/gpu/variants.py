"""What the constants of the PyTorch stages should be: batch, compilation, graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.models import Bench, random_request, relative_error
from benchmarks.gpu.report import NotRun, PartResult
from benchmarks.gpu.speed import KERNEL_ORDERS, kernel_order, measure_reference, measure_request
from benchmarks.gpu.timing import is_gpu, time_call, time_in_turn, time_once
from python_backend.arrays import to_torch
from python_backend.cuda import KernelOrder, compile_layers, fused_kernels

_NO_GPU = NotRun("needs a GPU")
_VISION_FRAMES = 64
_BATCHES = (16, 64, 128, 256)


def guarded(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Measure, or say why not: that a device refuses is part of the answer."""
    try:
        return dict(measure())
    except Exception as error:  # noqa: BLE001 - any call may refuse
        return {"not run": f"{type(error).__name__}: {error}"[:300]}


def measure_batches(bench: Bench) -> PartResult:
    """Time the tower by frames at once, and both ways of cutting patches."""
    size, device = bench.size, bench.device
    request = random_request(size, min(size.main_frames, max(_BATCHES)), device=device)
    vision, total = bench.vision, len(request.frames)
    pool = to_torch(request.pooling, torch.device(device))

    def encode(at_once: int) -> None:
        for piece in request.frames.split(at_once):
            vision(piece, pool.expand(len(piece), -1, -1))

    rows: dict[str, Any] = {}
    before = vision.patches_as_matmul
    with torch.inference_mode(), _kernels(bench):
        for at_once in _BATCHES:
            if at_once <= total:
                (times,) = time_in_turn(
                    partial(encode, at_once), device=device, repeats=5, seconds=4.0
                )
                rows[f"{at_once} at once"] = {"milliseconds_a_frame": min(times) / total}
        for as_matmul in (True, False):
            vision.patches_as_matmul = as_matmul
            piece = request.frames[:_VISION_FRAMES]
            name = "matrix product" if as_matmul else "convolution"
            rows[f"patches by {name}"] = {
                "median_ms": time_call(partial(vision._embed_patches, piece), device, seconds=3.0),
                "frames": len(piece),
            }
    vision.patches_as_matmul = before
    return rows


def measure_graphs(bench: Bench) -> PartResult:
    """Time both models eagerly and as CUDA graphs, whose replay has no launch gaps."""
    if not is_gpu(bench.device):
        return _NO_GPU
    rows: dict[str, Any] = {}
    with torch.inference_mode(), fused_kernels():
        for name, call in _model_calls(bench).items():
            rows[name] = guarded(partial(_time_graph, call, bench.device))
    return rows


def _time_graph(call: Callable[[], Tensor], device: str) -> dict[str, float]:
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    eager, replayed = time_in_turn(call, graph.replay, device=device, seconds=8.0)
    return {
        "eager_ms": sorted(eager)[len(eager) // 2],
        "graph_ms": sorted(replayed)[len(eager) // 2],
    }


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


def _kernels(bench: Bench) -> AbstractContextManager[None]:
    return fused_kernels() if is_gpu(bench.device) else nullcontext()
