"""Parts for tests of the GPU check: each does what a part must not be able to harm it with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.report import NotRun, Part


def part(name: str, *, seconds: float = 0, target: str = "", **fields: Any) -> Part:
    target = f"tests.benchmarks.gpu_parts:{target or name}"
    return Part(name=name, seconds=seconds, target=target, **fields)


def fine(bench: Any) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "ceiling": bench.ceiling_tflops,
        "nan": float("nan"),
        "size": bench.size.name,
    }


def nothing_to_run_on(bench: Any) -> NotRun:
    return NotRun("no files")


def raises(bench: Any) -> dict[str, Any]:
    bench.ceiling_tflops = 5.0
    raise ValueError("out of luck")


def runs_out_of_memory(bench: Any) -> dict[str, Any]:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def exits(bench: Any) -> dict[str, Any]:
    sys.exit(3)


def is_killed(bench: Any) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def crashes(bench: Any) -> dict[str, Any]:
    os.abort()


def hangs(bench: Any, pids: Path) -> dict[str, Any]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pids.write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
    raise AssertionError


def returns_what_json_lacks(bench: Any) -> dict[str, Any]:
    return {"seconds": np.float32(1.5)}


def names_a_file(bench: Any) -> dict[str, Any]:
    raise FileNotFoundError(os.fsdecode(b"video \xff.mp4"))


def gets_a_signal_without_a_name(bench: Any) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGRTMIN + 5)
    raise AssertionError


def forks(bench: Any) -> dict[str, Any]:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return {"child": child}


def fills_the_disk(bench: Any, scratch: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        scratch.write_text(folder)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError
