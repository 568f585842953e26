"""The JSON file: written after every part, so that a run that is cut short leaves what it has."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._report import package_version

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


PartResult = dict[str, Any] | NotRun


@dataclass(frozen=True, kw_only=True)
class Part:
    """One measurement that stands by itself."""

    name: str
    seconds: float
    """What it may take at full size; left out where less is left of the budget."""
    target: str
    """"module:function", imported where it runs; called with the `Bench` and the arguments."""
    arguments: tuple[Any, ...] = ()


class Report:
    """Runs parts and keeps their results."""

    def __init__(self, path: Path, *, header: dict[str, Any], budget_seconds: float) -> None:
        self._path = path
        self._header = header
        self._budget_seconds = budget_seconds
        self._started = time.monotonic()
        self.parts: list[dict[str, Any]] = []
        self.targets: list[dict[str, Any]] = []

    def run(
        self, part: Part, runner: Callable[[Part], dict[str, Any]], *, scale: float = 1.0
    ) -> dict[str, Any]:
        """Run a part that still fits, and write the file.

        Args:
            part: What to run.
            runner: Returns the part's outcome whatever becomes of it: `status` "ok" with
                `results`, "not run" with `why`, or "failed" with `error`.
            scale: Of its seconds, for sizes other than the full one.

        Returns:
            What the report says of it.
        """
        started = time.monotonic()
        left = self._budget_seconds - (started - self._started)
        if part.seconds * scale > left:
            needed = part.seconds * scale
            outcome = {
                "status": "not run",
                "why": f"{left:.0f} s were left, it may take {needed:.0f}",
            }
        else:
            print(f"{started - self._started:6.0f} s  {part.name}", flush=True)
            outcome = runner(part)
        entry = {"part": part.name, **outcome, "seconds": time.monotonic() - started}
        self.parts.append(entry)
        try:
            self.save()
        except OSError as error:
            # Written with the next part, if there is room again.
            print(f"{self._path} is not written: {error.strerror}", flush=True)
        return entry

    def save(self) -> None:
        """Write what there is; NaN and infinity become null, which JSON lacks."""
        report = {
            **self._header,
            "targets": self.targets,
            "parts": self.parts,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed, so that a run which is killed while it writes leaves the file before.
        partial = self._path.with_name(self._path.name + ".partial")
        partial.write_text(json.dumps(finite(report), indent=2) + "\n", "utf-8")
        partial.replace(self._path)


def header(question: str, *, device: str, size: str) -> dict[str, Any]:
    """Return what a report says about where and on what it ran; asks no CUDA."""
    return {
        "question": question,
        "command": " ".join(["python -m benchmarks.gpu_check", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _run(["git", "rev-parse", "--short", "HEAD"]) or None,
        "size": size,
        "machine": {
            "device": device,
            "nvidia_smi": nvidia_smi(),
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "packages": {name: package_version(name) for name in _PACKAGES},
        },
    }


def nvidia_smi() -> dict[str, str] | None:
    """Return clocks, power and temperature as nvidia-smi reads them, None where it is absent."""
    words = _run(["nvidia-smi", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader"])
    if not words:
        return None
    return dict(zip(_SMI_FIELDS, words.splitlines()[0].split(", "), strict=False))


def _run(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def finite(value: Any) -> Any:
    """Return plain JSON of a value: NaN and infinity become None."""
    match value:
        case dict():
            return {key: finite(one) for key, one in value.items()}
        case list() | tuple():
            return [finite(one) for one in value]
        case float():
            return value if abs(value) < float("inf") else None
        case _:
            return value
