"""What every benchmark's JSON says about where and on what it ran."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

_PACKAGES = (
    "numpy",
    "torch",
    "transformers",
    "onnxruntime",
    "av",
    "nvidia-pytriton",
    "tensorrt-rtx-cu13",
    "nvidia-dali-cuda130",
)


def spread(values: list[float]) -> dict[str, float]:
    """Return median, p90, p99 and the number of values."""
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {"median": p50, "p90": p90, "p99": p99, "count": len(values)}


def write_report(path: Path | None, question: str, results: dict[str, Any]) -> None:
    """Print one JSON object and, where a path is given, write it there.

    What is not installed has no version, and what is no checkout, or lies where git is not, no
    commit: that must not cost a measurement.
    """
    report = {
        "question": question,
        "command": shlex.join(
            ["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "packages": {name: package_version(name) for name in _PACKAGES},
        },
        "results": results,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def package_version(name: str) -> str | None:
    """Return the version of an installed package, None of another."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return said.stdout.strip() or None
