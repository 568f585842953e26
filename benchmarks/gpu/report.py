"""The JSON file: written after every part, so that a run that is cut short leaves what it has."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "triton",
    "nvidia-cudnn-cu13",
    "flash-attn",
    "tensorrt",
    "tensorrt_llm",
    "nvidia-dali-cuda130",
)
_SMI_FIELDS = (
    "name",
    "driver_version",
    "power.limit",
    "power.draw",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "temperature.gpu",
    "memory.total",
)


@dataclass(frozen=True)
class NotRun:
    """What a part returns that has nothing to run on."""

    why: str
    """What is missing."""


PartResult = dict[str, Any] | NotRun


@dataclass(frozen=True, kw_only=True)
class Part:
    """One measurement that stands by itself."""

    name: str
    """How the report calls it."""
    seconds: float
    """What it may take at full size; left out where less is left of the budget."""
    call: Callable[[], PartResult]
    """Measures."""


class Report:
    """Runs parts and keeps their results."""

    def __init__(self, path: Path, *, header: dict[str, Any], budget_seconds: float) -> None:
        self._path = path
        self._header = header
        self._budget_seconds = budget_seconds
        self._started = time.monotonic()
        self.parts: list[dict[str, Any]] = []
        self.targets: list[dict[str, Any]] = []

    def run(self, part: Part, *, scale: float = 1.0) -> dict[str, Any] | None:
        """Run a part whatever becomes of it, and write the file.

        Args:
            part: What to run.
            scale: Of its seconds, for sizes other than the full one.

        Returns:
            Its results, None where it did not run to its end.
        """
        entry: dict[str, Any] = {"part": part.name}
        self.parts.append(entry)
        started = time.monotonic()
        left = self._budget_seconds - (started - self._started)
        outcome: PartResult
        if part.seconds * scale > left:
            outcome = NotRun(f"{left:.0f} s were left, it may take {part.seconds * scale:.0f}")
        else:
            print(f"{started - self._started:6.0f} s  {part.name}", flush=True)
            try:
                outcome = part.call()
            except Exception as error:  # noqa: BLE001 - the other parts still run
                entry |= {
                    "status": "failed",
                    "error": f"{type(error).__name__}: {error}"[:2000],
                    "traceback": traceback.format_exc(limit=-6),
                }
                outcome = {}
        if isinstance(outcome, NotRun):
            entry |= {"status": "not run", "why": outcome.why}
        elif "status" not in entry:
            entry |= {"status": "ok", "results": outcome}
        entry["seconds"] = time.monotonic() - started
        # After the traceback is gone, which holds the tensors of a part that ran out of memory.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.save()
        return outcome if entry["status"] == "ok" else None  # type: ignore[return-value]

    def save(self) -> None:
        """Write what there is; NaN and infinity become null, which JSON lacks."""
        report = {**self._header, "targets": self.targets, "parts": self.parts}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(_finite(report), indent=2) + "\n", "utf-8")


def header(question: str, *, device: str, size: str) -> dict[str, Any]:
    """Return what a report says about where and on what it ran."""
    return {
        "question": question,
        "command": " ".join(["python -m benchmarks.gpu_check", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "size": size,
        "machine": {
            "device": _device(device),
            "nvidia_smi": nvidia_smi(),
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in _PACKAGES},
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        },
    }


def nvidia_smi() -> dict[str, str] | None:
    """Return clocks, power and temperature as nvidia-smi reads them, None where it is absent."""
    words = _run(["nvidia-smi", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader"])
    if not words:
        return None
    return dict(zip(_SMI_FIELDS, words.splitlines()[0].split(", "), strict=False))


def _device(device: str) -> dict[str, Any]:
    if torch.device(device).type != "cuda":
        return {"name": device}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": properties.total_memory / 1024**3,
    }


def _commit() -> str | None:
    return _run(["git", "rev-parse", "--short", "HEAD"]) or None


def _run(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case float():
            return value if abs(value) < float("inf") else None
        case _:
            return value
