"""What this machine is, and the rates that no program on it can pass: the floors' denominators."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from groundserve.runtime.cpus import available_cpus

K = TypeVar("K")
Size = tuple[int, int, int]

GEMM_SIZES: tuple[Size, ...] = (
    (784, 768, 3072),
    (784, 3072, 768),
    (1024, 768, 768),
    (2048, 2048, 2048),
)
"""(m, k, n): both products of SigLIP's MLP over four frames of 196 patches, a decoder's, a cube."""
INSTRUCTION_SETS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm"),
)
"""Those that decide how fast float32 and 8-bit products are, by the kernel's names."""
_WINDOW_SECONDS = 0.08
_WINDOWS = 8
_COPY_BYTES = 256 * 1024**2


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """The best that libraries reach on this machine with all cores that this process may use."""

    sgemm_gflops: float
    """float32 products: the best of `sgemm_gflops_by_library`. One multiply-add is 2 FLOP."""
    sgemm_gflops_by_library: dict[str, float]
    """Each library's best."""
    int8_gemm_gops: float
    """Unsigned by signed 8-bit products with 32-bit sums, ONNX Runtime's best."""
    copy_gb_per_second: float
    """One core's copy of 256 MiB; bytes copied, each of which is read and written."""

    def net_seconds(self, flop: Mapping[str, float], *, is_int8: bool = False) -> dict[str, float]:
        """Return the least time of "encode" and "ground"; only the first is ever in 8 bits."""
        encode_rate = self.int8_gemm_gops if is_int8 else self.sgemm_gflops
        rates = {"encode": encode_rate, "ground": self.sgemm_gflops}
        return {name: flop[name] / (rate * 1e9) for name, rate in rates.items()}

    def copy_seconds(self, num_bytes: float) -> float:
        """Return the least time that one core needs to copy so many bytes."""
        return num_bytes / (self.copy_gb_per_second * 1e9)


def measure_peaks() -> Peaks:
    """Time products in torch and ONNX Runtime, and a copy: some 10 seconds of all cores.

    The best window counts, not the median: a ceiling that another program's load has lowered would
    make every share look better than it is. The windows of all products take turns, so that such a
    load falls on all of them.
    """
    threads = available_cpus()
    makers: dict[str, Callable[[Size], Callable[[], Any]]] = {
        "torch": _torch_product,
        "onnxruntime": lambda size: _onnxruntime_product(size, threads, is_int8=False),
        "int8": lambda size: _onnxruntime_product(size, threads, is_int8=True),
    }
    products = {
        (library, size): make(size) for library, make in makers.items() for size in GEMM_SIZES
    }
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    seconds = _best_seconds(products)
    torch.set_num_threads(before)
    rates: dict[str, float] = dict.fromkeys(makers, 0.0)
    for (library, size), best in seconds.items():
        rates[library] = max(rates[library], 2 * math.prod(size) / best / 1e9)
    int8 = rates.pop("int8")
    return Peaks(
        sgemm_gflops=max(rates.values()),
        sgemm_gflops_by_library=rates,
        int8_gemm_gops=int8,
        copy_gb_per_second=_copy_rate(),
    )


def describe_machine() -> dict[str, Any]:
    """Return the processor and what it can, by the kernel's lines about the first core."""
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    processor = {name.strip(): value.strip() for name, _, value in pairs}
    flags = set((processor.get("flags") or processor.get("Features") or "").split())
    return {
        "cpu_model": processor.get("model name"),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "cores_available": available_cpus(),
        "is_virtual": "hypervisor" in flags,
        "memory_gib": psutil.virtual_memory().total / 1024**3,
    }


def _torch_product(size: Size) -> Callable[[], Any]:
    import torch

    m, k, n = size
    a, b = torch.randn(m, k), torch.randn(k, n)
    out = torch.empty(m, n)
    return lambda: torch.mm(a, b, out=out)


def _onnxruntime_product(size: Size, threads: int, *, is_int8: bool) -> Callable[[], Any]:
    """Weights are the graph's own, hence packed once, as a model's are."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    m, k, n = size
    random = np.random.default_rng(0)
    a: NDArray[Any] = random.standard_normal((m, k), dtype=np.float32)
    b: NDArray[Any] = random.standard_normal((k, n), dtype=np.float32)
    operator, types = "MatMul", (TensorProto.FLOAT, TensorProto.FLOAT)
    if is_int8:
        a = random.integers(0, 255, (m, k), dtype=np.uint8)
        # 7 bits: without VNNI the kernels' 16-bit sums of two products would saturate past them.
        b = random.integers(-63, 63, (k, n), dtype=np.int8)
        operator, types = "MatMulInteger", (TensorProto.UINT8, TensorProto.INT32)
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", types[0], (m, k))],
        [helper.make_tensor_value_info("c", types[1], (m, n))],
        [numpy_helper.from_array(b, "b")],
    )
    # Versions that any ONNX Runtime of the last years reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_cpu_input("a", a)
    # A tensor made anew for each product would be timed by its page faults.
    out = np.zeros((m, n), np.int32 if is_int8 else np.float32)
    binding.bind_ortvalue_output("c", onnxruntime.OrtValue.ortvalue_from_numpy(out))
    return lambda: session.run_with_iobinding(binding)


def _copy_rate() -> float:
    source = np.ones(_COPY_BYTES, np.uint8)
    target = np.zeros_like(source)
    seconds = _best_seconds({"copy": lambda: np.copyto(target, source)})
    return _COPY_BYTES / seconds["copy"] / 1e9


def _best_seconds(calls: Mapping[K, Callable[[], Any]]) -> dict[K, float]:
    """Return seconds of one call, in the best of a few windows of many calls."""
    best = {}
    for key, call in calls.items():
        call()
        best[key] = math.inf
    for _ in range(_WINDOWS):
        for key, call in calls.items():
            count, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < _WINDOW_SECONDS or not count:
                call()
                count += 1
            best[key] = min(best[key], elapsed / count)
    return best
