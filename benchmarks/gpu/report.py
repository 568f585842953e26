"""The JSON file: written after every part, so that a run that is cut short leaves what it has."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._report import make_report, write_json

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


@dataclass(frozen=True)
class Part:
    """One measurement that stands by itself."""

    name: str
    seconds: float
    """What it may take; left out where less is left of the budget."""
    target: str
    """"module:function" below benchmarks.gpu, imported where it runs; called with the `Bench` and
    the arguments."""
    arguments: tuple[Any, ...] = ()


class Report:
    """Runs parts and keeps their results."""

    def __init__(self, path: Path, *, device: str, size: str, budget_seconds: float) -> None:
        """Begin the report; asks no CUDA."""
        self._path = path
        self._header = make_report("speed and parity of the PyTorch stages on a GPU", {})
        self._header["size"] = size
        self._header["machine"] |= {"device": device, "nvidia_smi": nvidia_smi()}
        self._ends = time.monotonic() + budget_seconds
        self.parts: list[dict[str, Any]] = []
        self.targets: list[dict[str, Any]] = []

    def run(self, part: Part, runner: Callable[[Part], dict[str, Any]]) -> None:
        """Run a part that still fits, and write the file.

        The runner returns an outcome whatever becomes of the part: `status` "ok" with `results`,
        "not run" with `why`, or "failed" with `error`.
        """
        started = time.monotonic()
        left = self._ends - started
        if part.seconds > left:
            why = f"{left:.0f} s were left, it may take {part.seconds:.0f}"
            outcome: dict[str, Any] = {"status": "not run", "why": why}
        else:
            print(f"{left:6.0f} s left  {part.name}", flush=True)
            outcome = runner(part)
        self.parts.append({"part": part.name, **outcome, "seconds": time.monotonic() - started})
        try:
            self.save()
        except OSError as error:
            # Written with the next part, if there is room again.
            print(f"{self._path} is not written: {error.strerror}", flush=True)

    def save(self) -> None:
        """Write what there is; NaN and infinity become null, which JSON lacks."""
        report = {**self._header, "targets": self.targets, "parts": self.parts}
        write_json(self._path, finite(report))


def nvidia_smi() -> dict[str, str] | None:
    """Return clocks, power and temperature as nvidia-smi reads them, None where it is absent."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(_SMI_FIELDS, done.stdout.strip().splitlines()[0].split(", "), strict=False))


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
