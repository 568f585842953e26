"""Which parts of the recipe matter: variants B and C, with and without stages 1 to 3.

    python -m benchmarks.ablation --work WORK --out ablation.json

Without stages 1 to 3, part of their tokens goes to more videos in stage 4; the counts stand in the
results. All runs use the tower of the shipped checkpoint, those of a seed one language model; all
are scored on the same fresh test videos, 16 frames long.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._report import write_report
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from train.config import StageConfig, Variant
from train.digits.dataset import write_grounding_set
from train.digits.validate import frame_ap
from train.families.videoitg.digits.base import TOWER_NAME
from train.families.videoitg.digits.recipe import Phase, Recipe, run_recipe, stage_configs
from train.families.videoitg.layout import open_initial
from train.logs import read_metrics

SEEDS = (11, 12, 13)
VARIANTS: tuple[Variant, ...] = ("pooling", "anchor")
NUM_FRAMES = 16
TEST_SEED = 2026
NUM_TEST_VIDEOS = 60
NUM_VIDEOS = 300
"""Of stage 4 behind stages 1 to 3."""
NUM_VIDEOS_ALONE = 440
"""Of stage 4 alone: about as many seconds as all four stages."""


def run_both_variants(seed: int, has_stages_1_to_3: bool, work: Path) -> list[dict[str, Any]]:
    """Train and score C, then B, which starts from the same first three stages; on one core."""
    torch.set_num_threads(1)
    out = work / f"seed-{seed}-{'four' if has_stages_1_to_3 else 'one'}"
    if not (out / "base" / TOWER_NAME).is_dir():
        shutil.copytree(SHIPPED_CHECKPOINT / TOWER_NAME, out / "base" / TOWER_NAME)
    num_videos = NUM_VIDEOS if has_stages_1_to_3 else NUM_VIDEOS_ALONE
    found = []
    for variant in VARIANTS:
        recipe = Recipe(
            seed=seed,
            variant=variant,
            has_stages_1_to_3=has_stages_1_to_3,
            num_texts=960,
            num_images=768,
            num_videos=240,
            video_epochs=1,
            phases=(Phase(num_frames=NUM_FRAMES, num_videos=num_videos, learning_rate=1e-3),),
        )
        *before, last = stage_configs(recipe, out)
        started = time.perf_counter()
        run_recipe(recipe, out)
        runs = [*before, last]
        found.append(
            {
                "seed": seed,
                "variant": variant,
                "has_stages_1_to_3": has_stages_1_to_3,
                "num_tokens": sum(line.get("num_tokens", 0) for r in runs for line in _log(r)),
                "training_seconds": sum(_seconds(line) for r in runs for line in _log(r)),
                "wall_seconds": time.perf_counter() - started,
                **_score(last, work),
            }
        )
        last.out.rename(last.out.with_name(variant))
    return found


def _log(config: StageConfig) -> list[dict[str, Any]]:
    return read_metrics(config.out)


def _seconds(line: dict[str, Any]) -> float:
    (data_seconds,) = line.get("data_seconds", [0])  # of one process
    return float(data_seconds + line.get("compute_seconds", 0))


def _score(config: StageConfig, work: Path) -> dict[str, float]:
    records = work / "test" / "records.json"
    trained = replace(
        config,
        init=config.out / "final",
        vision_tower=None,
        auxiliary_weight=0.0,
        data=replace(config.data, records=records, media_root=records.parent),
    )
    initial = open_initial(trained, num_auxiliary=0)
    return frame_ap(trained)(initial.model.eval(), initial)


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and standard deviation over seeds of every figure, by setting."""
    rows = []
    for has_stages, variant in itertools.product((True, False), VARIANTS):
        chosen = [
            run
            for run in runs
            if run["variant"] == variant and run["has_stages_1_to_3"] == has_stages
        ]
        figures = [name for name in chosen[0] if name.startswith("frame_ap")]
        row: dict[str, Any] = {"variant": variant, "has_stages_1_to_3": has_stages}
        for name in figures:
            values = [run[name] for run in chosen]
            row[name] = {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1))}
        rows.append(row)
    return rows


def main() -> None:
    """Run all settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and data")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one core each")
    arguments = parser.parse_args()
    write_grounding_set(
        arguments.work / "test",
        split="test",
        seed=TEST_SEED,
        num_videos=NUM_TEST_VIDEOS,
        num_frames=NUM_FRAMES,
    )
    settings = list(itertools.product(SEEDS, (True, False)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        jobs = [
            pool.submit(run_both_variants, seed, has_stages, arguments.work)
            for seed, has_stages in settings
        ]
        runs = [run for job in jobs for run in job.result()]
    results = {"summary": summarise(runs), "runs": runs}
    write_report(arguments.out, "which parts of the recipe matter", results)


if __name__ == "__main__":
    main()
