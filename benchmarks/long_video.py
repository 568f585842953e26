"""Does memory grow with a video's length? 512 frames of 10 minutes and of 2 hours, through Triton.

python -m benchmarks.long_video [--out JSON]

Makes both files from the same 20 seconds of 720p H.264 (copied, not re-encoded), scores each with
512 frames on a server of its own, and reports every process's largest resident memory.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks._checkpoint import SEEDED_CHECKPOINT
from benchmarks._processes import name_of
from benchmarks._report import write_report
from benchmarks._usage import peak_rss_mib
from benchmarks.segment_cut import loop_source, make_source
from engine_build import build
from groundserve import Client, ScoreOptions
from groundserve.serving import TritonServer

MINUTES = (10, 120)


def measure(engines: Path, video: Path) -> dict[str, Any]:
    """Score one file on a fresh server."""
    options = ScoreOptions(num_frames=512, sample_fps=1.0)
    with (
        TritonServer(
            engines, http_port=0, grpc_port=0, metrics_port=0, allowed_roots=[video.parent]
        ) as server,
        Client(f"grpc://{server.grpc_address}") as client,
    ):
        started = time.perf_counter()
        result = client.score(queries="What happens?", options=options, video_uri=video.as_uri())
        seconds = time.perf_counter() - started
        assert server.pid is not None
        root = psutil.Process(server.pid)
        peaks: list[dict[str, Any]] = [
            {"process": name_of(process), "peak_rss_mib": peak_rss_mib(process.pid)}
            for process in [root, *root.children(recursive=True)]
        ]
    return {
        "duration_seconds": result.duration_seconds,
        "num_source_frames": result.num_source_frames,
        "file_mib": video.stat().st_size / 1024**2,
        "frames": len(result.frame_indices),
        "visual_tokens": len(result.frame_indices) * (result.grid or 0) ** 2,
        "seconds": seconds,
        "timing_ms": result.timing_ms,
        "largest_peak_rss_mib": max(peak["peak_rss_mib"] for peak in peaks),
        "processes": sorted(peaks, key=lambda peak: str(peak["process"])),
    }


def main() -> None:
    """Make the files and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(SEEDED_CHECKPOINT, folder / "engines", profile="cpu")
        make_source(folder / "source.mp4")
        results: dict[str, Any] = {}
        for minutes in MINUTES:
            video = folder / f"{minutes}.mp4"
            loop_source(folder / "source.mp4", video, minutes)
            results[f"{minutes} minutes"] = measure(folder / "engines", video)
            video.unlink()
    results["client_peak_rss_mib"] = peak_rss_mib(os.getpid())
    write_report(args.out, "largest resident memory of every process, 720p, 512 frames", results)


if __name__ == "__main__":
    main()
