"""What every benchmark's JSON says about where, on what and how it ran."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._machine import Peaks, describe_machine
from groundserve.files import whole_file

_PACKAGES = (
    "numpy",
    "torch",
    "transformers",
    "onnxruntime",
    "av",
    "decord",
    "pillow",
    "nvidia-pytriton",
    "triton",
    "nvidia-cudnn-cu13",
    "flash-attn",
    "tensorrt",
    "tensorrt_llm",
    "tensorrt-rtx-cu13",
    "nvidia-dali-cuda130",
)


def spread(values: list[float]) -> dict[str, float]:
    """Return median, p90, p99 and the number of values."""
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {"median": p50, "p90": p90, "p99": p99, "count": len(values)}


def describe_video(path: Path) -> dict[str, Any]:
    """Return what a report says of a video that was measured with."""
    import av

    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with av.open(path) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        return {
            "name": path.name,
            "sha256": sha256,
            "bytes": path.stat().st_size,
            "codec": stream.codec_context.name,
            "width": stream.codec_context.width,
            "height": stream.codec_context.height,
            "num_packets": len(packets),
            "num_key_packets": sum(packet.is_keyframe for packet in packets),
            "average_fps": float(stream.average_rate or 0),
        }


def write_report(path: Path | None, question: str, results: dict[str, Any], **about: Any) -> None:
    """Print the report as one JSON object and, where a path is given, write it there.

    `about` are the keyword arguments of `make_report`.
    """
    report = make_report(question, results, **about)
    print(json.dumps(report, indent=2))
    if path is not None:
        write_json(path, report)


def make_report(
    question: str,
    results: dict[str, Any],
    *,
    inputs: Sequence[dict[str, Any]] = (),
    warm_up: str | None = None,
    repeats: int | None = None,
    errors: Sequence[str] = (),
    peaks: Peaks | None = None,
) -> dict[str, Any]:
    """Return what a report says of what `describe_video` returned and what was timed.

    What is not installed has no version, and what is no checkout, or lies where git is not, no
    commit: that must not cost a measurement.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "question": question,
        "command": shlex.join(
            ["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            **describe_machine(),
            "peaks": None if peaks is None else asdict(peaks),
            "python": platform.python_version(),
            "packages": {name: package_version(name) for name in _PACKAGES},
        },
        "inputs": list(inputs),
        "warm_up": warm_up,
        "repeats": repeats,
        # Of the whole run, so that a figure within can be held against it.
        "run": {
            "cpu_seconds_self": own.ru_utime + own.ru_stime,
            "cpu_seconds_ended_children": ended.ru_utime + ended.ru_stime,
            "peak_rss_mib_self": own.ru_maxrss / 1024,
            "peak_rss_mib_largest_ended_child": ended.ru_maxrss / 1024,
        },
        "errors": list(errors),
        "results": results,
    }


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write a file whole or not at all: a run that is cut off keeps what it had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(json.dumps(report, indent=2).encode() + b"\n")


def package_version(name: str) -> str | None:
    """Return the version of an installed package, None of another."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the checkout's, with "-dirty" where files differ from it; None where there is none."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return said.stdout.strip() or None


def read_through(path: Path) -> None:
    """Have a file in the page cache: disks are not what is compared."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
