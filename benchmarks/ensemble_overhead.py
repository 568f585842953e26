"""What does Triton cost over the in-process pipeline, and where?

python -m benchmarks.ensemble_overhead --video FILE [--out JSON]

Both run the same engine directory on the same video with the same chunks, in turn, so that the
machine's other load falls on both, and must give the same bits. The stages are the same objects
and time themselves in both: a stage that takes longer under Triton does so because its tensors are
copied to another process and back. What lies outside the stages is the upload, the ensemble's
scheduling and the copies between its steps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks._checkpoint import SEEDED_CHECKPOINT
from benchmarks._report import spread, write_report
from engine_build import build
from groundserve import Client, ScoreOptions, ScoreResult
from groundserve.serving import TritonServer
from python_backend.pipeline import Pipeline

QUERY = "When is a parked bicycle shown?"
WARM_UP = 3


def timed(call: Callable[[], ScoreResult]) -> tuple[float, ScoreResult]:
    """Return milliseconds and the result."""
    started = time.perf_counter()
    result = call()
    return (time.perf_counter() - started) * 1000, result


def measure(video: Path, engines: Path, options: ScoreOptions, repeats: int) -> dict[str, object]:
    """Time one workload both ways."""
    data = video.read_bytes()
    ours: list[float] = []
    theirs: list[float] = []
    parts: dict[str, list[float]] = {}
    with (
        Pipeline.open(engines) as pipeline,
        TritonServer(engines, http_port=0, grpc_port=0, metrics_port=0) as server,
        Client(f"grpc://{server.grpc_address}") as client,
    ):
        for repeat in range(WARM_UP + repeats):
            pipeline_ms, local = timed(lambda: pipeline.score(data, QUERY, options))
            triton_ms, remote = timed(lambda: client.score(data, QUERY, options))
            assert np.array_equal(local.queries[0].frame_logits, remote.queries[0].frame_logits)
            if repeat < WARM_UP:
                continue
            ours.append(pipeline_ms)
            theirs.append(triton_ms)
            outside_ms = triton_ms - pipeline_ms
            for name, stage_ms in remote.timing_ms.items():
                added_ms = stage_ms - local.timing_ms[name]
                parts.setdefault(name, []).append(added_ms)
                outside_ms -= added_ms
            parts.setdefault("outside the stages", []).append(outside_ms)
    added = [t - o for t, o in zip(theirs, ours, strict=True)]
    return {
        "video_bytes": len(data),
        "frames": len(local.frame_indices),
        "tokens": len(local.frame_indices) * local.grid**2,
        "pipeline_ms": spread(ours),
        "triton_ms": spread(theirs),
        "overhead_ms": float(np.median(added)),
        "overhead_percent": float(100 * np.median(added) / np.median(ours)),
        "overhead_by_part_ms": {name: float(np.median(ms)) for name, ms in parts.items()},
        "bit_equal": True,
    }


def main() -> None:
    """Run the workloads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engines = Path(folder) / "engines"
        build(SEEDED_CHECKPOINT, engines, profile="cpu")
        results = {
            f"{num_frames} frames": measure(
                args.video,
                engines,
                ScoreOptions(num_frames=num_frames, sample_fps=100, sampling="infer"),
                args.repeats,
            )
            # One chunk: with more, decoding overlaps encoding and the parts no longer add up.
            for num_frames in (10, 64)
        }
    write_report(args.out, "overhead of the Triton ensemble over the in-process pipeline", results)


if __name__ == "__main__":
    main()
