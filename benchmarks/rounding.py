"""How much of the bound on rounding do engines use, and what would a wrong model miss by?

    python -m benchmarks.rounding [--clips .venv/clips] [--every N] [--out JSON]

For the reference's 108 cases: how far our float64 is from what the reference printed; the bound on
float32's rounding (tests/rounding.py); how far the engines of profiles `torch` and `cpu` are from
float64. Then each mistake of tests/mistakes.py on the longest and shortest sample of each
checkpoint. Run it with other kernels to see what a processor changes: ATEN_CPU_CAPABILITY=default,
OMP_NUM_THREADS=1, or under an emulated processor.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._report import write_report
from engine_build import build
from groundserve.families.videoitg.grid import pooling_weights
from python_backend.engine import EngineDirectory
from tests.exact import decode, exact, kept_text_ids, open_float64
from tests.mistakes import MISTAKES, miss
from tests.reference import ALL_CASES, CHECKPOINTS, LONGEST_AND_SHORTEST, SET_2, ReferenceCase

PROFILES = ("torch", "cpu")


def measure_bounds(cases: list[ReferenceCase], clips: dict[str, Path]) -> dict[str, Any]:
    """Compare float64 with the reference, and say how large the bounds are."""
    exacts = [exact(case, clips[case.video]) for case in cases]
    recorded = [np.abs(e.logits - c.logits).max() for e, c in zip(exacts, cases, strict=True)]
    bounds = [e.bound for e in exacts]
    return {
        "num_cases": len(cases),
        "float64_from_reference": {"max": max(recorded), "median": float(np.median(recorded))},
        "bound": {"min": min(bounds), "median": float(np.median(bounds)), "max": max(bounds)},
    }


def measure_engines(
    profile: str, cases: list[ReferenceCase], clips: dict[str, Path], folder: Path
) -> dict[str, float]:
    """Return how far a profile's engines are from float64, also in units of the bound."""
    stages = {}
    for checkpoint in CHECKPOINTS:
        engines = folder / f"{profile}-{checkpoint.name}"
        build(checkpoint, engines, profile=profile)
        engine = EngineDirectory.load(engines)
        threads = torch.get_num_threads()
        stages[checkpoint] = (
            engine.open_encoder(num_threads=threads),
            engine.open_grounder(num_threads=threads),
        )
    differences, used = [], []
    for case in cases:
        model, clip = open_float64(case.checkpoint), clips[case.video]
        encoder, grounder = stages[case.checkpoint]
        frames = decode(clip, tuple(case.frame_indices), model.vision.image_size)
        pooling = pooling_weights(model.grid(len(frames)), side=model.vision.side)
        logits = grounder.ground(encoder.encode(frames, pooling[None]), kept_text_ids(case))
        expected = exact(case, clip)
        differences.append(float(np.abs(logits - expected.logits).max()))
        used.append(differences[-1] / expected.bound)
    return {
        "max": max(differences),
        "median": float(np.median(differences)),
        "max_of_bound": max(used),
        "median_of_bound": float(np.median(used)),
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("GROUNDSERVE_CLIPS_DIR", ".venv/clips")
    parser.add_argument("--clips", type=Path, default=Path(default))
    parser.add_argument("--every", type=int, default=1, help="each Nth case only")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    clips = {path.stem: path for folder in (args.clips, SET_2) for path in folder.glob("*.mp4")}
    cases = ALL_CASES[:: args.every]
    results: dict[str, Any] = {
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        **measure_bounds(cases, clips),
    }
    with tempfile.TemporaryDirectory() as folder:
        results["engines"] = {
            profile: measure_engines(profile, cases, clips, Path(folder)) for profile in PROFILES
        }
    if args.every == 1:
        results["smallest_miss_of_bound"] = {
            mistake.__name__: min(
                miss(mistake, case, clips[case.video]) for case in LONGEST_AND_SHORTEST
            )
            for mistake in MISTAKES
        }
    write_report(args.out, "float32's rounding: bound, engines, mistakes", results)


if __name__ == "__main__":
    main()
