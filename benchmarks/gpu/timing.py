"""Milliseconds by CUDA events, or by the host's clock where there is no GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Call = Callable[[], Any]

_WARM_UP = 2


def is_gpu(device: str) -> bool:
    """Whether a device is one."""
    return torch.device(device).type == "cuda"


def synchronize(device: str) -> None:
    """Wait for everything that was given to the device."""
    if is_gpu(device):
        torch.cuda.synchronize(device)


def time_once(call: Call, device: str) -> float:
    """Return milliseconds from an idle device until all that the call started is done."""
    synchronize(device)
    if not is_gpu(device):
        started = time.perf_counter()
        call()
        return (time.perf_counter() - started) * 1000
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def time_in_turn(
    *calls: Call, device: str, repeats: int = 15, seconds: float = 15.0
) -> list[list[float]]:
    """Return the milliseconds of each call, made in turn after a warm-up.

    So what else moves (clocks, heat) falls on all of them. Where they would take longer than
    `seconds`, fewer repeats are made, but at least 3.
    """
    for _ in range(_WARM_UP):
        round_ms = sum(time_once(call, device) for call in calls)
    fitting = int(seconds * 1000 / max(round_ms, 1e-3))
    rounds = [
        [time_once(call, device) for call in calls] for _ in range(max(3, min(repeats, fitting)))
    ]
    return [list(times) for times in zip(*rounds, strict=True)]


def summary(times_ms: list[float]) -> dict[str, float]:
    """Return median, extremes and number of values."""
    return {
        "median_ms": float(np.median(times_ms)),
        "min_ms": min(times_ms),
        "max_ms": max(times_ms),
        "repeats": len(times_ms),
    }


def time_call(call: Call, device: str, *, repeats: int = 15, seconds: float = 15.0) -> float:
    """Return the median in milliseconds of one call, warmed up."""
    (times,) = time_in_turn(call, device=device, repeats=repeats, seconds=seconds)
    return summary(times)["median_ms"]


def peak_gib(call: Call, device: str) -> float | None:
    """Return the most GPU memory that PyTorch held in tensors during a call, weights included."""
    if not is_gpu(device):
        return None
    torch.cuda.reset_peak_memory_stats(device)
    call()
    synchronize(device)
    return float(torch.cuda.max_memory_allocated(device) / 1024**3)
