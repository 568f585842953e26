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
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from benchmarks.gpu.report import NotRun, Part, finite
from benchmarks.gpu.size import Size

_GRACE_SECONDS = 10.0


class Worker:
    """A place for one process: started when a part comes, replaced after a part failed in it."""

    def __init__(self, *, size: Size, device: str) -> None:
        self._size, self._device = size, device
        self._ceiling_tflops: float | None = None
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def run(self, part: Part, *, limit_seconds: float) -> dict[str, Any]:
        """Run a part, for so long at most; `Report.run` says what comes back."""
        connection = self._connect()
        try:
            connection.send(part)
            if not connection.poll(limit_seconds):
                self.close()
                return _failed(f"stopped after {limit_seconds:.0f} s")
            outcome, self._ceiling_tflops = connection.recv()
        except (EOFError, OSError):
            assert self._process is not None
            self._process.join(_GRACE_SECONDS)
            code = self._process.exitcode
            self.close()
            return _failed(f"its process ended with code {code} (-9: out of host memory?)")
        if outcome["status"] == "failed":
            self.close()
        return dict(outcome)

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = self._connection = None

    def _connect(self) -> Connection:
        if self._connection is None:
            # Not forked: a copy of a process with threads or a CUDA context is of no use.
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            arguments = (theirs, self._size, self._device, self._ceiling_tflops)
            self._process = context.Process(target=_serve, args=arguments)
            self._process.start()
            theirs.close()
        return self._connection


def _failed(error: str) -> dict[str, Any]:
    return {"status": "failed", "error": error}


def _serve(connection: Connection, size: Size, device: str, ceiling_tflops: float | None) -> None:
    """Run parts until the other end is closed."""
    bench: Any = None
    while True:
        try:
            part: Part = connection.recv()
        except EOFError:
            return
        try:
            bench = bench or _make_bench(size, device, ceiling_tflops)
            outcome = _call(bench, part)
            _settle(device)
        except Exception as error:  # noqa: BLE001 - the other parts still run
            # A file's name may be in it that cannot be printed.
            text = f"{type(error).__name__}: {error}"[:2000].encode(errors="backslashreplace")
            outcome = _failed(text.decode())
            outcome["traceback"] = traceback.format_exc(limit=-6)
        connection.send((outcome, getattr(bench, "ceiling_tflops", ceiling_tflops)))


def _make_bench(size: Size, device: str, ceiling_tflops: float | None) -> Any:
    # Here, not above: what cannot be imported fails the part, not the check.
    import torch

    from benchmarks.gpu.models import Bench

    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)
    return Bench(size=size, device=device, ceiling_tflops=ceiling_tflops)


def _call(bench: Any, part: Part) -> dict[str, Any]:
    module, _, function = part.target.partition(":")
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
