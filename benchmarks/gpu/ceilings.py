"""What the device can do at best: the rates that every other number is held against."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.models import Bench
from benchmarks.gpu.report import nvidia_smi
from benchmarks.gpu.timing import is_gpu, time_call


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
