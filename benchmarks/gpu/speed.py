"""The device's best rates, and milliseconds of requests at full size, ours and the reference's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import python_backend.cuda
from benchmarks.gpu.models import Bench, Request, random_request, relative_error
from benchmarks.gpu.reference import HAS_FLASH_ATTENTION, Reference
from benchmarks.gpu.report import NotRun, PartResult, nvidia_smi
from benchmarks.gpu.timing import (
    is_gpu,
    peak_gib,
    summary,
    time_call,
    time_in_turn,
    time_once,
)
from python_backend.arrays import to_torch
from python_backend.cuda import KernelOrder, compile_layers, fused_kernels

KERNEL_ORDERS: tuple[KernelOrder, ...] = ("flash", "cudnn")
_NEW_LENGTHS = 3
_VISION_FRAMES = 64


@contextmanager
def kernel_order(order: KernelOrder) -> Iterator[KernelOrder]:
    """Let the stages try this attention kernel first."""
    before = python_backend.cuda.KERNEL_ORDER
    python_backend.cuda.KERNEL_ORDER = order
    try:
        yield order
    finally:
        python_backend.cuda.KERNEL_ORDER = before


def measure_ceilings(bench: Bench) -> dict[str, Any]:
    """Time a large matrix product of random numbers and a large copy."""
    gpu = is_gpu(bench.device)
    side, copy_bytes = (8192, 4 * 1024**3) if gpu else (256, 16 * 1024**2)
    factors = [torch.randn(side, side, dtype=bench.dtype, device=bench.device) for _ in range(2)]
    product = torch.empty_like(factors[0])
    matmul_ms = time_call(lambda: torch.mm(*factors, out=product), bench.device, repeats=40)
    after_matmul = nvidia_smi()
    if gpu:
        copy_bytes = min(copy_bytes, torch.cuda.mem_get_info(bench.device)[0] // 4)
    source = torch.randint(0, 256, (copy_bytes,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    copy_ms = time_call(lambda: target.copy_(source), bench.device, repeats=20)
    bench.ceiling_tflops = 2 * side**3 / matmul_ms / 1e9
    return {
        "device": _describe(bench.device),
        "dtype": str(bench.dtype),
        "matmul_side": side,
        "matmul_tflops": bench.ceiling_tflops,
        "copy_bytes": copy_bytes,
        "copy_tb_per_second_read_and_written": 2 * copy_bytes / copy_ms / 1e9,
        "nvidia_smi_after_matmul": after_matmul,
    }


def _describe(device: str) -> dict[str, Any]:
    if not is_gpu(device):
        return {"name": device}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": properties.total_memory / 1024**3,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def measure_request(bench: Bench, num_frames: int, *, seconds: float = 20.0) -> dict[str, Any]:
    """Time a new video (encode, ground) and a repeated one (ground alone), frames on the device."""
    size, device = bench.size, bench.device
    request = random_request(size, num_frames, device=device)
    features = bench.encode(request)

    def cold() -> None:
        bench.ground(bench.encode(request), request)

    encode, ground, both = time_in_turn(
        lambda: bench.encode(request),
        lambda: bench.ground(features, request),
        cold,
        device=device,
        seconds=seconds,
    )
    vision_flop, grounding_flop = size.vision_flop(num_frames), size.grounding_flop(num_frames)
    return {
        "frames": num_frames,
        "grid": size.grid(num_frames),
        "tokens": size.num_tokens(num_frames),
        "kernel_order": python_backend.cuda.KERNEL_ORDER,
        "encode": summary(encode) | _rate(bench, vision_flop, encode),
        "ground_is_repeat": summary(ground) | _rate(bench, grounding_flop, ground),
        "cold": summary(both) | _rate(bench, vision_flop + grounding_flop, both),
        "frames_per_second_encoded": num_frames / summary(encode)["median_ms"] * 1000,
        "peak_gib": peak_gib(cold, device),
    }


def _rate(bench: Bench, flop: float, times_ms: list[float]) -> dict[str, float | None]:
    """Hold a time against the arithmetic and the measured ceiling."""
    tflops = flop / summary(times_ms)["median_ms"] / 1e9
    ceiling = bench.ceiling_tflops
    return {
        "tflop": flop / 1e12,
        "tflops": tflops,
        "fraction_of_ceiling": None if ceiling is None else tflops / ceiling,
        "floor_ms": None if ceiling is None else flop / ceiling / 1e9,
    }


def measure_sweep(bench: Bench) -> dict[str, Any]:
    """Time requests of other lengths."""
    rows = {}
    for num_frames in bench.size.other_frames:
        rows[str(num_frames)] = measure_request(bench, num_frames, seconds=8.0)
    return rows


def measure_reference(bench: Bench) -> dict[str, Any]:
    """Time ours and the re-enacted reference in turn over the same span, and compare scores."""
    size, device = bench.size, bench.device
    dtype = torch.float16 if is_gpu(device) else torch.float32
    request = random_request(size, size.main_frames, device=device)
    features = bench.encode(request)
    reference = Reference(size, bench.vision, bench.grounding, dtype=dtype, device=device)

    def ours() -> np.ndarray[Any, Any]:
        return bench.ground(bench.encode(request), request)

    def theirs() -> np.ndarray[Any, Any]:
        return reference.score(request).cpu().numpy()

    cold, repeat, whole = time_in_turn(
        ours,
        lambda: bench.ground(features, request),
        theirs,
        device=device,
        repeats=11,
        seconds=45.0,
    )
    scores = 1 / (1 + np.exp(-ours().astype(np.float64)))
    flop = size.vision_flop(size.main_frames, num_layers=size.tower.num_hidden_layers)
    pairs = [slow / fast for slow, fast in zip(whole, cold, strict=True)]
    return {
        "span": "resized uint8 frames on the device -> scores on the host",
        "attention": "flash-attn package" if HAS_FLASH_ATTENTION else "PyTorch's fused attention",
        "dtype": str(dtype),
        "ours_cold": summary(cold),
        "ours_repeat": summary(repeat),
        "reference": summary(whole)
        | _rate(bench, flop + size.grounding_flop(size.main_frames), whole),
        "ratio_cold": summary(whole)["median_ms"] / summary(cold)["median_ms"],
        "ratio_cold_of_pairs_min_max": [min(pairs), max(pairs)],
        "ratio_repeat": summary(whole)["median_ms"] / summary(repeat)["median_ms"],
        "reference_peak_gib": peak_gib(partial(reference.score, request), device),
        "relative_difference_of_scores": relative_error(scores, theirs()),
    }


def measure_orders(bench: Bench) -> dict[str, Any]:
    """Time the main request with each attention kernel first, and a length seen for the first time.

    A kernel that is planned or compiled for each new length makes the first question of that length
    slower than its repeats.
    """
    rows: dict[str, Any] = {}
    for order in KERNEL_ORDERS:
        with kernel_order(order):
            rows[order] = measure_request(bench, bench.size.main_frames, seconds=12.0)
            rows[order]["first_calls_at_new_lengths_ms"] = _first_calls(bench)
    return rows


def _first_calls(bench: Bench) -> list[float]:
    """Return milliseconds of the first call with one more text token than ever before."""
    request = random_request(bench.size, bench.size.main_frames, device=bench.device)
    features = bench.encode(request)
    times = []
    for added in range(1, _NEW_LENGTHS + 1):
        text_ids = np.concatenate([request.text_ids, request.text_ids[:1].repeat(added)])
        longer = Request(frames=request.frames, pooling=request.pooling, text_ids=text_ids)
        times.append(time_once(lambda: bench.ground(features, longer), bench.device))  # noqa: B023
    return times


def measure_compilation(bench: Bench) -> PartResult:
    """Time both models and the main request with compiled layers and the faster kernel order."""
    if not is_gpu(bench.device):
        return NotRun("needs a GPU")
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
