"""What does precision int8 of profile cpu save, and what does it cost?

    python -m benchmarks.int8 [--engines DIR] --out benchmarks/results/int8_cpu_DATE.json

Four parts. Scores of `digits` on held-out videos, in fp32 and int8, and their figures beside what
takes no model. Deviations on seeded noise, trained and random weights. What the grounding stage
would add, were it in int8 too. Time of both stages, interleaved; `--engines` names a directory in
fp32 to time, the smallest checkpoint's where left out, which says little about speed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks._checkpoint import SEEDED_CHECKPOINT
from benchmarks._command import positive, run
from benchmarks._machine import measure_peaks
from benchmarks._report import write_report
from engine_build import build
from engine_build.onnx_int8 import quantize_products, quantize_vision_encoder
from groundserve.cpus import available_cpus
from groundserve.evaluation.comparison import make_comparison
from groundserve.evaluation.grounding_records import read_grounding_records
from groundserve.evaluation.scored_records import ScoredRecords, score_records
from groundserve.instructions import int8_instructions
from groundserve.manifest import GROUNDING_ONNX_NAME, VISION_ONNX_NAME, Manifest
from groundserve.scoring.gate import measure_engines
from groundserve.scoring.noise import NoiseRequest
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.encode import OnnxRuntimeEncoder
from python_backend.ground import OnnxRuntimeGrounder
from python_backend.pipeline import Pipeline
from train.digits.dataset import write_grounding_set

TOP_KS = (8, 16, 32)
FIGURES = ("frame_ap", "recall_at_k", "r1_at_05", "r1_at_07", "miou")
_SEED = 2026
_NUM_TEXT_IDS = 20
_FRAMES_A_CALL = 4

Logits = NDArray[np.float32]


def agreement(logits: Logits, expected: Logits) -> dict[str, float]:
    """Compare one question's logits (T,) with those in float32.

    Returns:
        `largest` and `rms` difference; `spread`, the deviation of the expected ones;
        `rank_correlation`, Spearman's; `overlap_K`, share of the K best that both have, of equal
        logits the earlier, for each K of `TOP_KS` below T; `random_overlap_K`, expected of a random
        choice: K / T.
    """
    difference = logits - expected
    orders = [np.argsort(-one, kind="stable") for one in (logits, expected)]
    ranks = [np.argsort(order) for order in orders]
    found = {
        "largest": float(np.abs(difference).max()),
        "rms": float(np.sqrt(np.mean(difference**2))),
        "spread": float(expected.std()),
        "rank_correlation": float(np.corrcoef(ranks[0], ranks[1])[0, 1]),
    }
    for k in TOP_KS:
        if k < len(logits):
            first, second = (set(order[:k].tolist()) for order in orders)
            found[f"overlap_{k}"] = len(first & second) / k
            found[f"random_overlap_{k}"] = k / len(logits)
    return found


def summary(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return mean, lowest and highest of each figure."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: {"mean": float(np.mean(values)), "min": min(values), "max": max(values)}
        for name, values in columns.items()
    }


def measure_digits(folder: Path, engines: dict[str, Path], *, num_videos: int) -> dict[str, Any]:
    """Score the same questions in both precisions."""
    records = write_grounding_set(
        folder / "videos", split="test", seed=_SEED, num_videos=num_videos, num_frames=48
    )
    scored: dict[str, ScoredRecords] = {}
    for precision, engine_dir in engines.items():
        with Pipeline.open(engine_dir) as pipeline:
            scored[precision] = score_records(
                pipeline, read_grounding_records(records), media_root=records.parent, seed=_SEED
            )
    expected = scored["fp32"].questions
    rows = [
        agreement(one.frame_logits, expected[number].frame_logits)
        for number, one in scored["int8"].questions.items()
    ]
    comparison = make_comparison(scored["int8"], scored["fp32"], top_k=TOP_KS[0], seed=_SEED)
    return {
        "videos": num_videos,
        "questions": len(rows),
        "agreement": summary(rows),
        "recall_k": TOP_KS[0],
        "figures": {name: comparison.overall.figures[name].as_dict() for name in FIGURES},
    }


def measure_noise(engines: dict[str, Path], checkpoint: Path, scratch: Path) -> dict[str, Any]:
    """Return what the gate measures, each stage for itself, and what each adds to the logits."""
    report = measure_engines(engines["int8"], checkpoint, vision_tower=None)
    return {
        "checks": [asdict(check) for check in report.checks],
        "mask_probe": report.mask_probe,
        "logits": measure_stages(engines["fp32"], scratch, pairs=1)["logits"],
    }


def measure_stages(fp32: Path, scratch: Path, *, pairs: int) -> dict[str, Any]:
    """Time both stages in both precisions on noise, and tell what each adds to the logits."""
    graphs = {"vision": scratch / "vision.onnx", "grounding": scratch / "grounding.onnx"}
    shutil.copyfile(fp32 / VISION_ONNX_NAME, graphs["vision"])
    quantize_vision_encoder(graphs["vision"])
    grounding = onnx.load(fp32 / GROUNDING_ONNX_NAME)
    quantize_products(grounding, graphs["grounding"], behind_norm=False)
    manifest, threads = Manifest.load(fp32), {"num_threads": available_cpus()}
    encoders = {
        "fp32": OnnxRuntimeEncoder(fp32 / VISION_ONNX_NAME, **threads),
        "int8": OnnxRuntimeEncoder(graphs["vision"], **threads),
    }
    grounders = {
        "fp32": OnnxRuntimeGrounder(fp32 / GROUNDING_ONNX_NAME, **threads),
        "int8": OnnxRuntimeGrounder(graphs["grounding"], **threads),
    }
    request = NoiseRequest.make(
        manifest.frames_seam,
        manifest.model,
        vocab_size=256,
        num_frames=16,
        text_lengths=(_NUM_TEXT_IDS,),
    )
    frames, *plan_inputs = request.inputs
    pieces = [frames[i : i + _FRAMES_A_CALL] for i in range(0, len(frames), _FRAMES_A_CALL)]

    def encode(precision: str) -> NDArray[np.float32]:
        return np.concatenate([encoders[precision].encode(one, *plan_inputs) for one in pieces])

    features = {precision: encode(precision) for precision in encoders}

    def ground(precision: str, of: str = "fp32") -> Logits:
        return grounders[precision].ground(features[of], request.text_ids[0])

    expected = ground("fp32")
    return {
        "frames": len(frames),
        "tokens": request.num_tokens[0],
        "threads": threads["num_threads"],
        "encode": time_pairs(encode, pairs=pairs),
        "ground": time_pairs(ground, pairs=pairs),
        "features_rms_error": float(
            np.sqrt(((features["int8"] - features["fp32"]) ** 2).mean())
            / np.sqrt((features["fp32"] ** 2).mean())
        ),
        "logits": {
            "vision in int8 (what ships)": agreement(ground("fp32", "int8"), expected),
            "grounding in int8": agreement(ground("int8"), expected),
            "both in int8": agreement(ground("int8", "int8"), expected),
        },
    }


def time_pairs(call: Callable[[str], Any], *, pairs: int) -> dict[str, Any]:
    """Return seconds in fp32 and how many times faster int8 is, wall and processor time."""
    times: dict[str, list[tuple[float, float]]] = {"fp32": [], "int8": []}
    for number in range(pairs + 1):
        for precision in ("fp32", "int8") if number % 2 else ("int8", "fp32"):
            wall, processor = time.perf_counter(), time.process_time()
            call(precision)
            taken = (time.perf_counter() - wall, time.process_time() - processor)
            if number:  # the first pair warms up
                times[precision].append(taken)
    fp32, int8 = (np.array(times[precision]) for precision in ("fp32", "int8"))
    found: dict[str, Any] = {"pairs": pairs}
    for place, clock in enumerate(("wall", "processor")):
        p10, median, p90 = np.percentile(fp32[:, place] / int8[:, place], [10, 50, 90])
        found[f"{clock}_seconds_fp32"] = float(np.median(fp32[:, place]))
        found[f"{clock}_times_faster"] = {"median": median, "p10": p10, "p90": p90}
    return found


def main() -> None:
    """Print the results as JSON, and write them where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engines", type=Path, help="in fp32, of the checkpoint to time")
    parser.add_argument("--videos", type=positive, default=60, help="of `digits`")
    parser.add_argument("--pairs", type=positive, default=7)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    if args.engines is not None:
        Manifest.load(args.engines)  # refused before a minute of builds
    peaks = measure_peaks()
    checkpoints = {"digits": SHIPPED_CHECKPOINT, "random": SEEDED_CHECKPOINT}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built: dict[str, dict[str, Path]] = {}
        for weights, checkpoint in checkpoints.items():
            built[weights] = {}
            for precision in ("fp32", "int8"):
                out = folder / f"{weights}_{precision}"
                build(checkpoint, out, precision=precision)
                built[weights][precision] = out
        timed = args.engines or built["random"]["fp32"]
        results = {
            "instructions": int8_instructions(),
            "timed": {
                "checkpoint": Manifest.load(timed).checkpoint["name"],
                **measure_stages(timed, folder, pairs=args.pairs),
            },
            "digits": measure_digits(folder, built["digits"], num_videos=args.videos),
            "noise": {
                weights: measure_noise(built[weights], checkpoint, folder)
                for weights, checkpoint in checkpoints.items()
            },
        }
    write_report(
        args.out,
        "What does int8 save, and what does it cost?",
        results,
        inputs=[{"name": f"MovingDigits, {args.videos} videos of the test split, seed {_SEED}"}],
        warm_up="one pair of each stage",
        repeats=args.pairs,
        peaks=peaks,
    )


if __name__ == "__main__":
    run(main)
