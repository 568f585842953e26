"""How long do ranks wait for the costliest sample, with the samples of a step dealt or as drawn?

    python -m benchmarks.rank_waits --out benchmarks/results/rank_waits_simulated_DATE.json
    python -m benchmarks.rank_waits --table benchmarks/results/rank_waits_simulated_DATE.json

The second prints the table of docs/training.md. Nothing is trained: stage 4's steps are drawn from
VideoITG-40K's folders, and what a sample costs is `train.cost`'s operations at 7B. A video's length
is drawn evenly from what its folder's name says, its grid as training draws it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks._report import write_report
from benchmarks.gpu.size import FULL
from groundserve.data_record import Media, Message, Record
from train.cost import SampleCost
from train.data.items import Item, guess_num_frames
from train.data.order import deal, item_generator
from train.families.videoitg.flops import sample_cost
from train.families.videoitg.samples import grid_choices
from train.families.videoitg.stages import grounding

# Records by folder (spec: VideoITG-40K, `video_itg_data.json`), and the seconds of their videos.
NUM_RECORDS = {
    "2_3_m_youtube": 142_364,
    "1_2_m_youtube": 131_702,
    "30_60_s_youtube": 87_183,
    "30_60_s_academic": 48_814,
    "2_3_m_academic": 26_916,
    "1_2_m_academic": 16_438,
    "30_60_s_nextqa": 5_865,
    "1_2_m_nextqa": 4_669,
    "2_3_m_activitynetqa": 4_032,
    "1_2_m_activitynetqa": 3_713,
    "30_60_s_activitynetqa": 1_587,
    "30_60_s_perceptiontest": 985,
    "2_3_m_nextqa": 86,
}
BANDS = {"30_60_s": (30, 60), "1_2_m": (60, 120), "2_3_m": (120, 180)}
NUM_TEXT_TOKENS = 20
SAMPLES_A_STEP = 128
RANKS = (8, 16, 32, 64, 128)
WAYS = ("as drawn", "dealt by folder", "dealt by duration")
KINDS = ("every pass", "once a step")
"""When ranks wait for one another: `fsdp2` and `hsdp`; `ddp`."""


def draw_samples(cost: SampleCost, *, seed: int, number: int) -> Iterator[tuple[float, float]]:
    """Draw samples: what each costs, and what its folder's name lets one guess."""
    rng = random.Random(seed)
    data = grounding(init=Path(), records=Path(), media_root=Path(), out=Path()).data
    folders = rng.choices(list(NUM_RECORDS), weights=list(NUM_RECORDS.values()), k=number)
    for item, folder in enumerate(folders):
        low, high = next(band for name, band in BANDS.items() if folder.startswith(name))
        num_frames = rng.randint(low, high)  # at 1 frame a second

        def predict(frames: int, item: int = item) -> float:
            grids = grid_choices(
                frames,
                vision_token_num=data.vision_token_num,
                vision_min_num=data.vision_min_num,
                side=FULL.tower.side,
            )
            grid = item_generator(seed=seed, epoch=0, item=item).choice(grids)
            return cost(num_frames=frames, lengths=[frames * grid**2 + NUM_TEXT_TOKENS])

        media = Media("video", f"LLaVA-Video-178K/{folder}/{item}.mp4")
        record = Record(name=str(item), media=media, messages=(Message("user", "?"),))
        guessed = guess_num_frames(
            Item(media=media, records=(record,)), sample_fps=1.0, max_frames=data.max_frames
        )
        yield predict(num_frames), predict(guessed)


def ratios(costs: Sequence[float], shares: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return what the slowest takes over the mean, waiting in every pass and once a step."""
    passes = [[costs[i] for i in one] for one in zip(*shares, strict=True)]
    mean = sum(costs) / len(shares)
    in_lockstep = sum(map(max, passes))
    once = max(sum(costs[i] for i in share) for share in shares)
    return in_lockstep / mean, once / mean


def simulate(num_ranks: int, *, seeds: int, steps: int) -> dict[str, Any]:
    """Return mean and standard deviation over seeds of a seed's mean ratios."""
    cost = sample_cost(
        FULL.checkpoint,
        FULL.tower,
        is_trained=True,
        is_causal=False,
        recomputes=True,
    )
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        samples = list(draw_samples(cost, seed=seed, number=steps * SAMPLES_A_STEP))
        of_seed: dict[str, list[tuple[float, float]]] = {}
        for start in range(0, len(samples), SAMPLES_A_STEP):
            truth, guessed = zip(*samples[start : start + SAMPLES_A_STEP], strict=True)
            places = range(SAMPLES_A_STEP)
            drawn = [list(places[rank::num_ranks]) for rank in range(num_ranks)]
            dealt = [deal(costs, num_ranks=num_ranks) for costs in (guessed, truth)]
            for name, shares in zip(WAYS, (drawn, *dealt), strict=True):
                of_seed.setdefault(name, []).append(ratios(truth, shares))
        for name, pairs in of_seed.items():
            for kind, values in zip(KINDS, zip(*pairs, strict=True), strict=True):
                found.setdefault(name, {}).setdefault(kind, []).append(statistics.mean(values))
    return {
        name: {
            kind: {"mean": statistics.mean(values), "stdev": statistics.stdev(values)}
            for kind, values in kinds.items()
        }
        for name, kinds in found.items()
    }


def table(results: dict[str, Any]) -> str:
    """Return a report's results as Markdown."""
    rows = [["GPUs", "passes a step"]]
    for kind in KINDS:
        rows[0] += [f"{kind}: {name}" for name in WAYS]
    rows.append(["---"] * len(rows[0]))
    for num_ranks, found in results["slowest_over_mean"].items():
        cells = [found[name][kind] for kind in KINDS for name in WAYS]
        shown = [f"{cell['mean']:.2f} ± {cell['stdev']:.2f}" for cell in cells]
        rows.append([num_ranks, str(results["samples_a_step"] // int(num_ranks)), *shown])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Simulate every number of ranks, or print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50, help="of each seed")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, metavar="JSON", help="print a report's table")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())["results"]))
        return
    results = {
        "samples_a_step": SAMPLES_A_STEP,
        "seeds": list(range(args.seeds)),
        "steps_a_seed": args.steps,
        "slowest_over_mean": {
            str(num): simulate(num, seeds=args.seeds, steps=args.steps) for num in RANKS
        },
    }
    write_report(args.out, "how long ranks wait for the costliest sample", results)


if __name__ == "__main__":
    main()
