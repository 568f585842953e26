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
import os
import signal
import tempfile
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from benchmarks.gpu.report import NotRun, Part, finite
from benchmarks.gpu.size import Size

_GRACE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What comes back from a worker."""

    outcome: dict[str, Any]
    ceiling_tflops: float | None
    """What the bench knows by now, for the worker that follows."""
    goes_on: bool
    """Whether this worker takes another part."""


class Worker:
    """A place for one process: started when a part comes, replaced after a part failed in it."""

    def __init__(self, *, size: Size, device: str) -> None:
        self._size, self._device = size, device
        self._ceiling_tflops: float | None = None
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def run(self, part: Part, *, limit_seconds: float) -> dict[str, Any]:
        """Run a part; see `Report.run` for what comes back.

        Args:
            part: What to run.
            limit_seconds: After so long the process is killed.
        """
        connection = self._connect()
        try:
            connection.send(part)
            if not connection.poll(limit_seconds):
                self.close()
                return _failed(f"stopped after {limit_seconds:.0f} s")
            answer: _Answer = connection.recv()
        except (EOFError, OSError):
            return _failed(f"its process {self._cause_of_death()}")
        self._ceiling_tflops = answer.ceiling_tflops
        if not answer.goes_on:
            self.close()
        return answer.outcome

    def close(self) -> None:
        """End the process and whatever it started, and remove its temporary files."""
        if self._process is not None and self._process.pid is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                # It ended, or is too young to have a group of its own.
                self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        if self._scratch is not None:
            self._scratch.cleanup()
        self._process = self._connection = self._scratch = None

    def _connect(self) -> Connection:
        if self._connection is None:
            # Not forked: a copy of a process with threads or a CUDA context is of no use.
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            # What a part that is killed leaves, plans among it, must not fill the disk.
            self._scratch = tempfile.TemporaryDirectory(
                prefix="gpu_check-", ignore_cleanup_errors=True
            )
            self._process = context.Process(
                target=_serve,
                args=(theirs, self._size, self._device, self._ceiling_tflops, self._scratch.name),
            )
            self._process.start()
            theirs.close()
            self._connection = ours
        return self._connection

    def _cause_of_death(self) -> str:
        assert self._process is not None
        self._process.join(_GRACE_SECONDS)
        code = self._process.exitcode
        self.close()
        if code is None:
            return "closed its connection and was ended"
        if code < 0:
            # A real-time signal has no name here.
            known = {one.value: one.name for one in signal.Signals}
            name = known.get(-code, f"signal {-code}")
            hint = "; out of host memory?" if name == "SIGKILL" else ""
            return f"was ended by {name}{hint}"
        return f"ended with code {code}"


def _failed(error: str) -> dict[str, Any]:
    return {"status": "failed", "error": error}


def _serve(
    connection: Connection, size: Size, device: str, ceiling_tflops: float | None, scratch: str
) -> None:
    """Run parts until one fails or the other end is closed."""
    os.setsid()
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    pid = os.getpid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    bench: Any = None
    while True:
        try:
            part: Part = connection.recv()
        except EOFError:
            return
        try:
            if bench is None:
                bench = _make_bench(size, device, ceiling_tflops)
            outcome = _call(bench, part)
            _settle(device)
        except Exception as error:  # noqa: BLE001 - the other parts still run
            # A file's name may be in it that cannot be printed.
            text = f"{type(error).__name__}: {error}"[:2000].encode(errors="backslashreplace")
            outcome = _failed(text.decode())
            outcome["traceback"] = traceback.format_exc(limit=-6)
        if os.getpid() != pid:
            # A copy of this process, forked by the part: its answer would be taken for the next.
            os._exit(1)
        goes_on = outcome["status"] != "failed"
        ceiling_tflops = getattr(bench, "ceiling_tflops", ceiling_tflops)
        connection.send(_Answer(outcome=outcome, ceiling_tflops=ceiling_tflops, goes_on=goes_on))
        if not goes_on:
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)


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
