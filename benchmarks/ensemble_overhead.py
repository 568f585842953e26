"""What does a request through Triton cost more than the same stages in this process?

    python -m benchmarks.ensemble_overhead --video VIDEO [--engines DIR] [--repeats 18] [--out JSON]

The shipped checkpoint is asked about 10 frames, and a given engine directory of profile `cpu` about
64: one chunk, so that no decoding overlaps any encoding. Each request is made in process, as one
call of the ensemble and by `Client`, which must answer the same bits. They take turns in all six
orders: who comes after a way that other processes worked on finds the caches cold. The processor
seconds are of every process that worked on a request, this one among them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tritonclient.grpc
from numpy.typing import NDArray

from benchmarks._command import existing_file, positive, run
from benchmarks._machine import measure_peaks
from benchmarks._report import describe_video, spread, write_report
from benchmarks._server import FIRST_REQUESTS, MODEL, ensemble_inputs, server_of
from benchmarks._usage import cpu_seconds, tree
from engine_build import build
from groundserve import Client, ScoreOptions
from groundserve.weights.checkpoint_place import SHIPPED_CHECKPOINT
from python_backend.pipeline import Pipeline

QUERY = "When is a parked bicycle shown?"
WARM_UP = FIRST_REQUESTS + 1
NUM_FRAMES_SHIPPED, NUM_FRAMES_GIVEN = 10, 64
WAYS = ("pipeline", "ensemble", "client")
"""In process; one call by Triton's client; groundserve's client."""
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Run:
    """One request."""

    logits: Logits
    wall_ms: float
    cpu_ms: float
    """What all processes that worked on it used."""


def run_once(call: Callable[[], Logits], processes: Sequence[psutil.Process]) -> Run:
    """Make a call on which these processes work."""
    before, started = [cpu_seconds(process) for process in processes], time.perf_counter()
    logits = call()
    wall = time.perf_counter() - started
    cpu = sum(cpu_seconds(process) for process in processes) - sum(before)
    return Run(logits, wall_ms=1000 * wall, cpu_ms=1000 * cpu)


def measure(video: Path, engines: Path, options: ScoreOptions, repeats: int) -> dict[str, Any]:
    """Ask about one video in all ways."""
    data = video.read_bytes()
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    with (
        tempfile.TemporaryDirectory() as folder,
        Pipeline.open(engines, verify_files=False) as pipeline,
        server_of(engines, Path(folder)) as server,
        Client(f"grpc://{server.grpc_address}") as client,
        tritonclient.grpc.InferenceServerClient(server.grpc_address) as plain,
    ):
        assert server.pid is not None, "it is started"
        server_pid = server.pid
        calls: dict[str, Callable[[], Logits]] = {
            "pipeline": lambda: pipeline.score(data, QUERY, options).queries[0].frame_logits,
            "ensemble": lambda: plain.infer(MODEL, ensemble_inputs(data, QUERY, options)).as_numpy(
                "FRAME_LOGITS"
            )[0],
            "client": lambda: client.score(data, QUERY, options).queries[0].frame_logits,
        }

        def ask(way: str) -> Run:
            of_server, (own, *below) = tree(server_pid), tree(os.getpid())
            workers = [one for one in below if one not in of_server]
            return run_once(calls[way], [own, *(workers if way == "pipeline" else of_server)])

        orders = itertools.cycle(itertools.permutations(WAYS))
        for repeat, order in zip(range(WARM_UP + repeats), orders, strict=False):
            asked = {way: ask(way) for way in order}
            for way in WAYS[1:]:
                assert np.array_equal(asked["pipeline"].logits, asked[way].logits), "the same bits"
            if repeat >= WARM_UP:
                for way, one in asked.items():
                    runs[way].append(one)
    return {
        "model": pipeline.manifest.checkpoint["name"],
        "video_bytes": len(data),
        "frames": len(runs["pipeline"][0].logits),
        **summarise(runs),
        "bit_equal": True,
    }


def summarise(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """Return the times of each way, and what the others take more than the pipeline."""
    wall = {way: [one.wall_ms for one in found] for way, found in runs.items()}
    cpu = {way: [one.cpu_ms for one in found] for way, found in runs.items()}
    return {
        **{f"{way}_ms": spread(wall[way]) for way in runs},
        **{f"{way}_cpu_ms": spread(cpu[way]) for way in runs},
        "added_percent": {way: added_percent(wall["pipeline"], wall[way]) for way in WAYS[1:]},
        "added_cpu_percent": {way: added_percent(cpu["pipeline"], cpu[way]) for way in WAYS[1:]},
    }


def added_percent(first: list[float], second: list[float]) -> float:
    """Return the median over all pairs of what the second takes more than the first."""
    pairs = zip(first, second, strict=True)
    return float(np.median([100 * (after / before - 1) for before, after in pairs]))


def main() -> None:
    """Run the workloads."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--video", type=existing_file, required=True)
    parser.add_argument("--engines", type=Path, help="of profile cpu, asked about 64 frames")
    parser.add_argument("--repeats", type=positive, default=18)
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
        warm_up=f"{WARM_UP} of each way",
        repeats=args.repeats,
        peaks=peaks,
    )


if __name__ == "__main__":
    run(main)
