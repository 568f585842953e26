"""Is a batch run that was killed and resumed the same as one that nobody disturbed?

python -m benchmarks.batch_kills [--kills 20] [--videos 100] [--seed 0] [--engines DIR]
                               [--corpus DIR] [--out JSON]

Scores a corpus of generated videos, five questions each, with two workers.
Then again, while SIGKILL ends a process of it at random moments, the starts of Ray included: the
driver, a worker (an actor of Ray's), the process of its scorer, Ray's node, Ray's driver. A driver
that was killed is started again with --resume; after any other kill the run goes on by itself.
Where a run is complete before all kills were made, another one begins. Compared are all columns of
the final set, in the order of ids.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks._command import positive, run
from benchmarks._corpus import QUERIES, make_corpus
from benchmarks._report import write_report
from groundserve.scoring.shipped import shipped_engine_dir
from tests.batch.jobs import final_set
from tests.batch.kills import KINDS, Killed

MAX_SECONDS = 14.0
"""Longest time to the next kill: Ray takes half of it to start."""


def plan(num_kills: int, rng: random.Random) -> list[str]:
    """Return the kinds to kill in a random order, evenly spread."""
    kinds = [list(KINDS)[i % len(KINDS)] for i in range(num_kills)]
    rng.shuffle(kinds)
    return kinds


def measure(
    manifest: Path, engines: Path, folder: Path, num_kills: int, seed: int
) -> dict[str, Any]:
    """Run undisturbed, then with kills, and compare."""
    rng = random.Random(seed)
    started = time.monotonic()
    quiet = Killed(manifest, folder / "quiet", "--engines", str(engines))
    quiet.run([], rng, max_seconds=0)
    quiet_seconds = time.monotonic() - started
    expected = final_set(quiet.out)
    left = plan(num_kills, rng)
    runs: list[dict[str, Any]] = []
    while left:
        killed = Killed(manifest, folder / f"killed-{len(runs)}", "--engines", str(engines))
        started = time.monotonic()
        left = killed.run(left, rng, max_seconds=MAX_SECONDS)
        got = final_set(killed.out)
        ids = Counter(got["id"].to_pylist())
        runs.append(
            {
                "seconds": time.monotonic() - started,
                "drivers": killed.num_starts,
                "kills": killed.to_list(),
                "is_equal": got.equals(expected),
                "missing_ids": len(set(expected["id"].to_pylist()) - set(ids)),
                "ids_twice": sum(count > 1 for count in ids.values()),
            }
        )
    kills = [kill for one in runs for kill in one["kills"]]
    ends = [kill["end_seconds"] for kill in kills if kill["end_seconds"] is not None]
    return {
        "rows": expected.num_rows,
        "columns_compared": expected.column_names,
        "errors_undisturbed": expected.num_rows - expected["error_kind"].null_count,
        "undisturbed_seconds": quiet_seconds,
        "runs": runs,
        "kills_by_kind": Counter(kill["kind"] for kill in kills),
        "driver_end_seconds_max": max(ends, default=None),
    }


def broken_promises(results: dict[str, Any]) -> list[str]:
    """Return what was not kept."""
    runs = results["runs"]
    promises = {
        "all columns equal": all(one["is_equal"] for one in runs),
        "no id missing": not any(one["missing_ids"] for one in runs),
        "no id twice": not any(one["ids_twice"] for one in runs),
        "no error": not results["errors_undisturbed"],
    }
    return [promise for promise, is_kept in promises.items() if not is_kept]


def main() -> None:
    """Write the corpus where there is none, and kill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=positive, default=20)
    parser.add_argument("--videos", type=positive, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", type=Path, help="the shipped checkpoint's if left out")
    parser.add_argument("--corpus", type=Path, help="folder that keeps the videos")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="groundserve-batch-kills-") as name:
        corpus = args.corpus or Path(name, "corpus")
        corpus.mkdir(parents=True, exist_ok=True)
        manifest = make_corpus(corpus, num_videos=args.videos)
        engines = args.engines or shipped_engine_dir()
        results = measure(manifest, engines, Path(name), args.kills, args.seed)
    broken = broken_promises(results)
    write_report(
        args.out,
        f"{args.videos * QUERIES} rows, {args.kills} kills: is the final set that of a quiet run?",
        results,
    )
    if broken:
        sys.exit(f"broken: {', '.join(broken)}")


if __name__ == "__main__":
    run(main)
