"""The process in which parts run, so that nothing a part does ends the check.

A part may raise, fail to import, run out of memory, leave the GPU in an error that every later call
meets, be killed, or never come back. The process that watches holds nothing of the device; a worker
in which a part failed is replaced, and with it its memory and its CUDA context.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import traceback
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from benchmarks.gpu.report import NotRun, Part, finite
from benchmarks.gpu.size import Size


class Worker:
    """A place for one process: started when a part comes, replaced after a part failed in it."""

    def __init__(self, *, size: Size, device: str) -> None:
        self._size, self._device = size, device
        self._ceiling_tflops: float | None = None
        self._pool: ProcessPoolExecutor | None = None

    def run(self, part: Part, *, limit_seconds: float) -> dict[str, Any]:
        """Run a part, for so long at most; `Report.run` says what comes back."""
        if self._pool is None:
            # Not forked: a copy of a process with threads or a CUDA context is of no use.
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        job = (self._size, self._device, self._ceiling_tflops)
        try:
            outcome, self._ceiling_tflops = self._pool.submit(_run, part, *job).result(
                limit_seconds
            )
        except TimeoutError:
            outcome = _failed(f"stopped after {limit_seconds:.0f} s")
        except BrokenProcessPool:
            outcome = _failed("its process ended (out of host memory?)")
        if outcome["status"] == "failed":
            self.close()
        return outcome

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            for process in multiprocessing.active_children():  # this program has no other
                process.kill()
            self._pool.shutdown()
            self._pool = None


def _failed(error: str) -> dict[str, Any]:
    return {"status": "failed", "error": error}


_benches: list[Any] = []
"""In the worker: what its parts share, once the first has made it."""


def _run(
    part: Part, size: Size, device: str, ceiling_tflops: float | None
) -> tuple[dict[str, Any], float | None]:
    """Run a part; return its outcome and the ceiling that is known by then."""
    try:
        if not _benches:
            _benches.append(_make_bench(size, device, ceiling_tflops))
        (bench,) = _benches
        outcome = _call(bench, part)
        _settle(device)
    except Exception as error:  # noqa: BLE001 - the other parts still run
        # A file's name may be in it that cannot be printed.
        text = f"{type(error).__name__}: {error}"[:2000].encode(errors="backslashreplace")
        outcome = {**_failed(text.decode()), "traceback": traceback.format_exc(limit=-6)}
    return outcome, _benches[0].ceiling_tflops if _benches else ceiling_tflops


def _make_bench(size: Size, device: str, ceiling_tflops: float | None) -> Any:
    # Here, not above: what cannot be imported fails the part, not the check.
    import torch

    from benchmarks.gpu.models import Bench

    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)
    return Bench(size=size, device=device, ceiling_tflops=ceiling_tflops)


def _call(bench: Any, part: Part) -> dict[str, Any]:
    module, _, function = part.target.partition(":")
    module = f"benchmarks.gpu.{module}"
    result = getattr(importlib.import_module(module), function)(bench, *part.arguments)
    if isinstance(result, NotRun):
        return {"status": "not run", "why": result.why}
    # What JSON lacks fails here, where it is this part's, and not in the report.
    return {"status": "ok", "results": json.loads(json.dumps(finite(result)))}


def _settle(device: str) -> None:
    """Give memory back; raise here what an earlier kernel did wrong, not in the next part."""
    import torch

    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
