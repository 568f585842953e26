"""How long does a corpus take on a cluster where things go wrong, and what is done twice?

    python -m benchmarks.corpus_simulation --out benchmarks/results/corpus_simulated_DATE.json

Nothing is decoded. Durations are drawn from a lognormal distribution with a seed, the planner of
`groundserve batch` cuts a sample of such videos into units, and the units of the corpus are drawn
from those; `benchmarks._cost` says what a GPU needs for a video of each duration, from published
figures or a report of `benchmarks.gpu_check`. A run is then played through unit by unit
(`benchmarks._corpus_run`). Corpus and cluster are shared out evenly over some run directories.

What a plan takes is measured with the real one on generated rows, half of them done; the time that
a store takes to say something of a video is given.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks._command import run
from benchmarks._corpus_run import Conditions, Outcome, simulate
from benchmarks._cost import Cluster, Figure, Rates, Request, Video, stage_seconds
from benchmarks._planned_corpus import MAX_SECONDS, SECONDS_AN_HOUR, Corpus, Floats, plan_units
from benchmarks._report import write_report
from benchmarks.scale import RELEASED, ROW_BYTES, read_gpu_rates
from groundserve.batch.keys import Fingerprint, request_hash
from groundserve.batch.plan import Plan
from groundserve.batch.planned import DoneRow
from groundserve.batch.row_options import options_json
from groundserve.batch.rows import Row
from groundserve.batch.units import UnitSize
from groundserve.options import ScoreOptions

CORPUS_HOURS = 10e6
NUM_NODES, SLOW_NODES = 32, 2
NUM_RUNS = 16
SPLITS = (1, 4, 16, 32)
"""Run directories for the whole cluster."""
MIN_PLAYED = 4
"""Runs that are played at least: what happens to a single one is chance."""
GPU_PRICE = 3.0
"""Of an hour of a GPU: given, as in `benchmarks.scale`."""
SAMPLE_VIDEOS = 200_000
PLANNED_ROWS = 10_000
LOOK_SECONDS = 0.02
"""Of an object store, to tell size and version of one object."""
LOOK_THREADS = 16
"""As `groundserve.batch.plan` has."""
HARDWARE_LOSS_HOURS = 54 * 24 * 2048 / 419
"""Of a node of 8 GPUs: 419 unexpected interruptions in 54 days on 16,384 GPUs. Source: The Llama 3
Herd of Models, arXiv 2407.21783, section 3.3.4."""
DAY = 24 * SECONDS_AN_HOUR


def scenarios(plan_seconds_a_row: float) -> dict[str, Conditions]:
    """Return what is played on the whole cluster, each with what the one before has and more."""
    calm = Conditions(num_nodes=NUM_NODES, plan_seconds_a_row=plan_seconds_a_row)
    faults = replace(
        calm,
        slow_nodes=SLOW_NODES,
        node_loss_seconds=HARDWARE_LOSS_HOURS * SECONDS_AN_HOUR,
        poison_share=1e-5,
    )
    spot = replace(faults, node_loss_seconds=DAY)
    killed = replace(spot, driver_kill_seconds=DAY)
    return {
        "no faults": calm,
        "slow nodes, faults, poison": faults,
        "and nodes preempted daily": spot,
        "and drivers killed daily": killed,
    }


def deal(
    conditions: Conditions, num_runs: int, *, rng: np.random.Generator
) -> Iterator[Conditions]:
    """Yield the conditions of each run: as many nodes each, and what it has of the slow ones."""
    num_nodes = conditions.num_nodes // num_runs
    slow = rng.choice(conditions.num_nodes, conditions.slow_nodes, replace=False) // num_nodes
    for number in range(num_runs):
        yield replace(conditions, num_nodes=num_nodes, slow_nodes=int((slow == number).sum()))


def gpu_seconds(corpus: Corpus, rates: Rates) -> Callable[[Floats], Floats]:
    """Return what one GPU needs for videos of given durations, decoding beside the networks.

    Between 200 durations on a logarithmic scale it is drawn straight.
    """
    gpu = Cluster(
        node_units=8,
        has_decoders=True,
        busy_share=1.0,
        storage_bytes_per_second=1.0,
        publish_seconds=1.0,
        node_price=0.0,
    )
    durations = np.geomspace(1.0, MAX_SECONDS, 200)
    seconds = [
        gpu.unit_seconds(
            stage_seconds(
                Video(
                    duration_seconds=duration,
                    fps=30.0,
                    gop=250,
                    bytes_per_second=corpus.bytes_per_second,
                ),
                Request(),
                rates,
                RELEASED,
            )
        )
        for duration in durations.tolist()
    ]
    return lambda wanted: np.interp(wanted, durations, seconds)


def measure_planning(num_rows: int) -> Figure:
    """Time the real plan of a resume: local files, half of the rows done."""
    fingerprint = Fingerprint(
        engine_id="0" * 64,
        model="none",
        family="videoitg",
        precision="fp32",
        defaults=ScoreOptions(),
        span_threshold=0.5,
        span_gap_seconds=1.0,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = []
        for position in range(num_rows):
            path = folder / f"{position}.mp4"
            path.write_bytes(b"0")
            rows.append(
                Row(
                    id=str(position),
                    video=path.name,
                    place=str(path),
                    query="When does it happen?",
                    options=ScoreOptions(),
                    position=position,
                )
            )
        with Plan.make(rows, fingerprint=fingerprint, folder=name) as plan:
            keys = {
                row.id: key
                for unit in plan.units(UnitSize())
                for group in unit.groups
                for row, key in zip(group.rows, group.keys, strict=True)
            }
        done = done_rows(rows[::2], keys)
        started = time.perf_counter()
        with Plan.make(rows, fingerprint=fingerprint, done=done, folder=name) as plan:
            for _ in plan.units(UnitSize()):
                pass
        seconds = time.perf_counter() - started
    return Figure(
        value=seconds / num_rows,
        unit="seconds a row",
        origin="measured",
        source=f"groundserve.batch.plan, {num_rows} rows, half of them done, on this machine",
    )


def done_rows(rows: list[Row], keys: dict[str, str]) -> list[DoneRow]:
    """Return the rows as a run directory gives those that have an answer."""
    return [
        DoneRow(row.id, keys[row.id], request_hash(row.video, row.query, options_json(row.options)))
        for row in rows
    ]


def tell(repeats: list[list[Outcome]], conditions: Conditions) -> dict[str, Any]:
    """Return how all runs of a corpus went, on average over repeats.

    Args:
        repeats: The outcomes of all runs, in each repeat.
        conditions: Of the whole cluster.
    """
    outcomes = [one for runs in repeats for one in runs]
    num_workers = conditions.num_workers // len(repeats[0])
    held = [one.seconds * num_workers for one in outcomes]
    ratios = [time / one.needed for time, one in zip(held, outcomes, strict=True)]

    def share(part: Callable[[Outcome], float]) -> float:
        return sum(map(part, outcomes)) / sum(held)

    needed, twice = share(lambda one: one.needed), share(lambda one: one.done_twice)
    planning = share(lambda one: one.planning)
    counts: dict[str, Callable[[Outcome], int]] = {
        "units": lambda one: one.num_units,
        "attempts": lambda one: one.num_attempts,
        "units_lost": lambda one: one.num_lost_units,
        "poison_videos": lambda one: one.num_poison,
        "healthy_videos_lost_twice": lambda one: one.num_lost_twice,
    }
    gpu_hours = sum(held) / len(repeats) / SECONDS_AN_HOUR
    return {
        "repeats": len(repeats),
        "days": mean(max(one.seconds for one in runs) for runs in repeats) / DAY,
        "gpu_hours": gpu_hours,
        "price": gpu_hours * GPU_PRICE,
        "held_over_needed": {"mean": mean(ratios), "min": min(ratios), "max": max(ratios)},
        "shares": {
            "needed": needed,
            "done_again": twice,
            "planning": planning,
            "waiting": 1 - needed - twice - planning,
        },
        "counts": {
            name: sum(map(count, outcomes)) / len(repeats) for name, count in counts.items()
        },
        "publish_lag_seconds": max(one.publish_lag_seconds for one in outcomes),
        "conditions": asdict(conditions),
        "origin": "simulated",
    }


def main() -> None:
    """Play every scenario."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hours", type=float, default=CORPUS_HOURS, help="of video")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    corpus, rates = Corpus(), read_gpu_rates()
    planning = measure_planning(PLANNED_ROWS)
    a_row = planning.value + LOOK_SECONDS / LOOK_THREADS
    rng = np.random.default_rng(args.seed)
    units = plan_units(
        corpus,
        gpu_seconds(corpus, rates),
        num_videos=SAMPLE_VIDEOS,
        size=UnitSize.for_job(10**6, workers=NUM_NODES),
        rng=rng,
    )
    num_units = round(args.hours / units.hours.mean())
    started = time.perf_counter()

    def play(conditions: Conditions, *, num_runs: int) -> dict[str, Any]:
        repeats = [
            [
                simulate(
                    units,
                    num_units=num_units // num_runs,
                    conditions=share,
                    rng=np.random.default_rng([args.seed, repeat, number]),
                )
                for number, share in enumerate(
                    deal(conditions, num_runs, rng=np.random.default_rng([args.seed, repeat]))
                )
            ]
            for repeat in range(max(1, MIN_PLAYED // num_runs))
        ]
        return tell(repeats, conditions)

    played = {
        name: play(conditions, num_runs=NUM_RUNS) for name, conditions in scenarios(a_row).items()
    }
    last = list(scenarios(a_row).values())[-1]
    splits = {str(num_runs): play(last, num_runs=num_runs) for num_runs in SPLITS}
    videos = np.array([len(one) for one in units.videos])
    results = {
        "seed": args.seed,
        "corpus": {
            "hours": args.hours,
            **asdict(corpus),
            "videos": float(num_units * videos.mean()),
            "mean_seconds": float(units.hours.sum() * SECONDS_AN_HOUR / videos.sum()),
        },
        "units": {
            "number": num_units,
            "videos": float(videos.mean()),
            "video_hours": float(units.hours.mean()),
            "gpu_seconds": float(units.seconds.mean()),
            "pickled_bytes": units.pickled_bytes,
            "wave_bytes": units.pickled_bytes * last.wave_units * NUM_NODES * last.node_workers,
        },
        "final_set_bytes": float(num_units * videos.mean() * ROW_BYTES),
        "rates": rates.to_dict(),
        "gpus": NUM_NODES * 8,
        "runs": NUM_RUNS,
        "gpu_price": GPU_PRICE,
        "planning": planning.to_dict(),
        "look_seconds": LOOK_SECONDS,
        "scenarios": played,
        "runs_of_the_last": splits,
        "simulated_in_seconds": time.perf_counter() - started,
    }
    write_report(args.out, "a corpus of 10 million hours, simulated", results)


if __name__ == "__main__":
    run(main)
