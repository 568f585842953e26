"""What does a request through Triton cost more than the same stages in this process?

    python -m benchmarks.ensemble_overhead --video VIDEO [--engines DIR] [--repeats 15] [--out JSON]

The shipped checkpoint is asked about 10 frames, and a given engine directory of profile `cpu` about
64: one chunk, so that no decoding overlaps any encoding and the parts add up. Nothing is cached.
Requests go in pairs, in process and through `Client`, each kind first in every other pair; both
have all cores, and must answer the same bits.

Beside the time, the processor seconds of every process that worked on a request are counted: this
one, which is the client as well, and either the pipeline's media workers or the server with its
models and theirs; the report tells the latter apart. What a server does once, at the first request
of each instance of a model, is no part of it: such requests go before the first pair. A stage that
takes longer under Triton does so because its tensors are copied to
another process and back, or because the memory they lie in is new to it. What lies outside the
stages is the upload, the ensemble's scheduling and the copies between its steps.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks._command import existing_file, positive, run
from benchmarks._machine import measure_peaks
from benchmarks._processes import FIRST_REQUESTS, name_of
from benchmarks._report import describe_video, spread, write_report
from benchmarks._usage import cpu_seconds, tree
from engine_build import build
from groundserve import Client, ScoreOptions, ScoreResult
from groundserve.checkpoint_place import SHIPPED_CHECKPOINT
from groundserve.serving import TritonServer
from python_backend.pipeline import Pipeline

QUERY = "When is a parked bicycle shown?"
WARM_UP = FIRST_REQUESTS + 1
NUM_FRAMES_SHIPPED, NUM_FRAMES_GIVEN = 10, 64


@dataclass(frozen=True)
class Run:
    """One request."""

    result: ScoreResult
    wall_ms: float
    cpu_ms: dict[str, float]
    """Of all processes that worked on it, by what they are."""

    @classmethod
    def of(cls, call: Callable[[], ScoreResult], pids: Iterable[int]) -> Run:
        """Make the call; `pids` are the processes that work on it."""
        processes = [psutil.Process(pid) for pid in pids]
        before, started = [cpu_seconds(process) for process in processes], time.perf_counter()
        result = call()
        wall = time.perf_counter() - started
        cpu_ms: dict[str, float] = {}
        for process, seconds in zip(processes, before, strict=True):
            name = "this process" if process.pid == os.getpid() else name_of(process)
            spent = 1000 * (cpu_seconds(process) - seconds)
            cpu_ms[name] = cpu_ms.get(name, 0.0) + spent
        return cls(result, wall_ms=1000 * wall, cpu_ms=cpu_ms)

    @property
    def total_cpu_ms(self) -> float:
        """Of all processes together."""
        return sum(self.cpu_ms.values())


def descendants(pid: int) -> set[int]:
    """Return the processes below one."""
    return {process.pid for process in tree(pid)} - {pid}


def measure(video: Path, engines: Path, options: ScoreOptions, repeats: int) -> dict[str, Any]:
    """Ask about one video in both ways."""
    data = video.read_bytes()
    pairs: list[tuple[Run, Run]] = []
    with (
        Pipeline.open(engines, verify_files=False) as pipeline,
        TritonServer(engines, http_port=0, grpc_port=0, metrics_port=0) as server,
        Client(f"grpc://{server.grpc_address}") as client,
    ):
        assert server.pid is not None, "it is started"

        def in_process() -> Run:
            others = {server_pid, *descendants(server_pid)}
            return Run.of(
                lambda: pipeline.score(data, QUERY, options),
                {own_pid} | descendants(own_pid) - others,
            )

        def through_triton() -> Run:
            return Run.of(
                lambda: client.score(data, QUERY, options),
                {own_pid, server_pid} | descendants(server_pid),
            )

        own_pid, server_pid = os.getpid(), server.pid
        for repeat in range(WARM_UP + repeats):
            if repeat % 2:
                triton, local = through_triton(), in_process()
            else:
                local, triton = in_process(), through_triton()
            for one, other in zip(local.result.queries, triton.result.queries, strict=True):
                assert np.array_equal(one.frame_logits, other.frame_logits), "the same bits"
            if repeat >= WARM_UP:
                pairs.append((local, triton))
    return {
        "model": pipeline.manifest.checkpoint["name"],
        "video_bytes": len(data),
        "frames": len(local.result.frame_indices),
        "tokens": len(local.result.frame_indices) * (local.result.grid or 0) ** 2,
        "pipeline_ms": spread([local.wall_ms for local, _ in pairs]),
        "triton_ms": spread([triton.wall_ms for _, triton in pairs]),
        "pipeline_cpu_ms": spread([local.total_cpu_ms for local, _ in pairs]),
        "triton_cpu_ms": spread([triton.total_cpu_ms for _, triton in pairs]),
        "added_percent": added_percent(
            [(local.wall_ms, triton.wall_ms) for local, triton in pairs]
        ),
        "added_cpu_percent": added_percent(
            [(local.total_cpu_ms, triton.total_cpu_ms) for local, triton in pairs]
        ),
        "pipeline_cpu_ms_by_process": medians([local.cpu_ms for local, _ in pairs]),
        "triton_cpu_ms_by_process": medians([triton.cpu_ms for _, triton in pairs]),
        "added_ms_by_part": added_by_part(pairs),
        "bit_equal": True,
    }


def added_percent(pairs: list[tuple[float, float]]) -> float:
    """Return the median over all pairs of what the second takes more than the first."""
    return float(np.median([100 * (second / first - 1) for first, second in pairs]))


def added_by_part(pairs: list[tuple[Run, Run]]) -> dict[str, float]:
    """Return the median milliseconds that Triton adds to each stage, and outside of them."""
    rows = []
    for local, triton in pairs:
        added = {
            stage: triton.result.timing_ms[stage] - local.result.timing_ms.get(stage, 0.0)
            for stage in triton.result.timing_ms
        }
        added["outside the stages"] = triton.wall_ms - local.wall_ms - sum(added.values())
        rows.append(added)
    return medians(rows)


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each part over all rows; a row without it has 0 of it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.median([row.get(name, 0.0) for row in rows])) for name in names}


def main() -> None:
    """Run the workloads."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--video", type=existing_file, required=True)
    parser.add_argument("--engines", type=Path, help="of profile cpu, asked about 64 frames")
    parser.add_argument("--repeats", type=positive, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    peaks = measure_peaks()
    with tempfile.TemporaryDirectory() as folder:
        shipped = Path(folder) / "engines"
        build(SHIPPED_CHECKPOINT, shipped, profile="cpu")
        workloads = [(shipped, NUM_FRAMES_SHIPPED)]
        if args.engines is not None:
            workloads.append((args.engines, NUM_FRAMES_GIVEN))
        results = {
            f"{num_frames} frames": measure(
                args.video,
                engines,
                # As many frames as asked for, also of a short clip.
                ScoreOptions(num_frames=num_frames, sample_fps=100, sampling="infer"),
                args.repeats,
            )
            for engines, num_frames in workloads
        }
    write_report(
        args.out,
        "overhead of the Triton models over the in-process pipeline",
        results,
        inputs=[describe_video(args.video)],
        warm_up=f"{WARM_UP} pairs",
        repeats=args.repeats,
        peaks=peaks,
    )


if __name__ == "__main__":
    run(main)
