"""What do Ray and a second worker give and cost, against a plain loop over `Pipeline`?

python -m benchmarks.batch [--videos 100] [--queries 5] [--repeats 2] [--engines DIR] [--corpus DIR]
                           [--parts ways poison memory] [--memory-rows 100 1000 10000] [--out JSON]

Scores the same corpus of generated videos, all questions of a video together, in three ways: in a
loop over one `Pipeline` with all cores, as a batch run with one worker of all cores, and as one
with a worker for each core. The ways take turns, forth and back. `wall_seconds` of a batch run is
all of it; `steady` is the time between its first and its last receipt, without the start of Ray.
Processor seconds are those of all processes, Ray's included.

Poison is a tenth of the rows of a scripted run: corrupt, missing and oversized videos, such that
hang, and such that kill the process they are scored in. Its time is held against that of a run
without, after the deadlines of those that hang, which both workers sit through side by side.

Memory is that of runs over a scripted scorer, whose rows are so many that nothing else grows: the
largest resident memory of the driver and of Ray's driver, and what its node holds of the object
store.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks._command import positive, run
from benchmarks._corpus import QUERIES, make_corpus
from benchmarks._report import write_report
from benchmarks._usage import measured, peak_rss_mib, tree_cpu_seconds
from groundserve.batch.engines import EngineSource
from groundserve.batch.events import Event, UnitDone
from groundserve.batch.job import Workers
from groundserve.batch.row import Row
from groundserve.batch.rows import read_manifest
from groundserve.cpus import available_cpus
from groundserve.limits import Limits
from groundserve.options import ScoreOptions
from groundserve.scoring.shipped import shipped_engine_dir
from python_backend.pipeline import Pipeline
from tests.batch.jobs import Job
from tests.batch.jobs import write_manifest as write_scripted
from tests.batch.kills import KINDS
from tests.batch.scripted import ScriptedSource

PARTS = ("ways", "poison", "memory")
_SAMPLE_SECONDS = 0.2
_ROWS_A_VIDEO = 5
_SCRIPTED_VIDEOS = 100
_SCRIPTED_SECONDS = 1.0
_SCRIPTED_WORKERS = 2
_POISON_VIDEOS = 10
_DEADLINE_SECONDS = 2.0
_HANG_SECONDS = 1.0
POISON = ("corrupt", "missing", "oversized", "hang", "die")
"""Of equally many videos."""


@dataclass(frozen=True)
class Moment:
    """When a receipt came."""

    seconds: float
    """Wall clock."""
    cpu_seconds: float
    """Spent until then by all processes that live, and by those that were waited for."""
    num_rows: int
    """Done until then."""


class Steady:
    """A batch run between its first and its last receipt."""

    def __init__(self) -> None:
        self.num_decoded = 0
        self._moments: list[Moment] = []

    def hear(self, event: Event) -> None:
        """Note when a unit was done, and what had been spent by then."""
        if not isinstance(event, UnitDone):
            return
        self.num_decoded += event.num_decoded
        before = self._moments[-1].num_rows if self._moments else 0
        cpu = tree_cpu_seconds(os.getpid())
        self._moments.append(Moment(time.perf_counter(), cpu, before + event.num_rows))

    def to_dict(self) -> dict[str, float]:
        """Return what a report holds."""
        first = self._moments[0]
        # Ray ends a worker that has nothing left, whose seconds are then nowhere: up to there.
        last = max(self._moments, key=lambda moment: moment.cpu_seconds)
        wall = last.seconds - first.seconds
        num_rows = last.num_rows - first.num_rows
        cpu_per_row = (last.cpu_seconds - first.cpu_seconds) / num_rows
        return {
            "rows": num_rows,
            "wall_seconds": wall,
            "rows_per_second": num_rows / wall,
            "cpu_seconds_per_row": cpu_per_row,
            # 1 where all cores work on the job all the time.
            "share_of_cores": num_rows / wall * cpu_per_row / available_cpus(),
        }


def in_a_loop(manifest: Path, engines: Path, out: Path) -> dict[str, Any]:
    """Score a corpus as a user's own loop does."""
    asked: dict[str, list[str]] = {}
    for row in read_manifest(str(manifest), defaults=ScoreOptions()):
        assert isinstance(row, Row)
        asked.setdefault(row.place, []).append(row.query)
    num_rows = sum(map(len, asked.values()))
    with measured() as meter, Pipeline.open(engines) as pipeline:
        started = time.perf_counter()
        for place, queries in asked.items():
            pipeline.score(place, queries)
        seconds = time.perf_counter() - started
    return {
        **meter.usage.to_dict(),
        "steady": {
            "rows": num_rows,
            "wall_seconds": seconds,
            "rows_per_second": num_rows / seconds,
            "cpu_seconds_per_row": meter.usage.cpu_seconds / num_rows,
        },
    }


def as_batch(workers: Workers) -> Callable[[Path, Path, Path], dict[str, Any]]:
    """Return what scores a corpus as a batch run."""

    def score(manifest: Path, engines: Path, out: Path) -> dict[str, Any]:
        source = EngineSource(engines=engines)
        job = Job(
            manifest=manifest,
            out=out,
            source=source,
            identity=source.identity(),
            workers=workers,
        )
        steady = Steady()
        started = time.perf_counter()
        job.run(on_event=steady.hear)
        return {
            "wall_seconds": time.perf_counter() - started,
            "decodings": steady.num_decoded,
            "steady": steady.to_dict(),
        }

    return score


def measure_ways(
    manifest: Path, engines: Path, folder: Path, repeats: int
) -> dict[str, dict[str, Any]]:
    """Score in all ways, forth and back."""
    cores = available_cpus()
    ways = {
        "loop": in_a_loop,
        "batch_1_worker": as_batch(Workers(count=1, cpus_each=cores)),
        f"batch_{cores}_workers": as_batch(Workers(count=cores, cpus_each=1)),
    }
    order = [*ways, *reversed(ways)] * ((repeats + 1) // 2)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for number, name in enumerate(order[: repeats * len(ways)]):
        runs[name].append(ways[name](manifest, engines, folder / f"run-{number}"))
    return {
        name: {
            "runs": of_way,
            "steady_rows_per_second": median(one["steady"]["rows_per_second"] for one in of_way),
            "cpu_seconds_per_row": median(one["steady"]["cpu_seconds_per_row"] for one in of_way),
        }
        for name, of_way in runs.items()
    }


def compared(ways: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return each way against the loop."""
    loop = ways["loop"]
    return {
        name: {
            "times_faster": way["steady_rows_per_second"] / loop["steady_rows_per_second"],
            "cpu_ms_a_row_more": 1000 * (way["cpu_seconds_per_row"] - loop["cpu_seconds_per_row"]),
        }
        for name, way in ways.items()
        if name != "loop"
    }


def measure_poison(folder: Path) -> dict[str, Any]:
    """Run a scripted job with and without bad videos."""
    folder.mkdir()
    bad = [f"{kind}-{n}.mp4" for kind in POISON for n in range(_POISON_VIDEOS // len(POISON))]
    good = [f"{number}.mp4" for number in range(_SCRIPTED_VIDEOS)]
    mixed = list(good)
    mixed[:: _SCRIPTED_VIDEOS // _POISON_VIDEOS] = bad
    seconds, kinds = {}, {}
    for name, videos in (("clean", good), ("poisoned", mixed)):
        rows = [(video, f"question {n}") for video in videos for n in range(_ROWS_A_VIDEO)]
        (folder / name).mkdir()
        manifest = write_scripted(folder / name, rows)
        for video in videos:
            if video.startswith("oversized"):
                os.truncate(folder / name / video, Limits().max_file_bytes + 1)
        job = Job(
            manifest=manifest,
            out=folder / name / "out",
            source=ScriptedSource(seconds=_SCRIPTED_SECONDS),
            workers=Workers(count=_SCRIPTED_WORKERS),
            settings={"deadline_seconds": _DEADLINE_SECONDS, "hang_seconds": _HANG_SECONDS},
        )
        started = time.perf_counter()
        job.run()
        seconds[name] = time.perf_counter() - started
        kinds[name] = Counter(job.final()["error_kind"].drop_null().to_pylist())
    num_hangs = sum(video.startswith("hang") for video in bad)
    waited = num_hangs * (_DEADLINE_SECONDS + _HANG_SECONDS) / _SCRIPTED_WORKERS
    return {
        "rows": len(good) * _ROWS_A_VIDEO,
        "rows_by_kind": kinds["poisoned"],
        "clean_seconds": seconds["clean"],
        "poisoned_seconds": seconds["poisoned"],
        "deadlines_seconds": waited,
        "times_clean_after_deadlines": (seconds["poisoned"] - waited) / seconds["clean"],
    }


def measure_memory(num_rows: int, folder: Path) -> dict[str, Any]:
    """Run a scripted job and watch its processes."""
    folder.mkdir()
    rows = [(f"{number // _ROWS_A_VIDEO}.mp4", f"question {number}") for number in range(num_rows)]
    manifest = write_scripted(folder, rows)
    command = [sys.executable, "-m", "tests.batch.drive", str(manifest), str(folder / "out")]
    peaks: dict[str, float] = {}
    with subprocess.Popen(command) as driver:
        while driver.poll() is None:
            for process in _family(driver.pid):
                _note(process, peaks)
            time.sleep(_SAMPLE_SECONDS)
    assert driver.returncode == 0
    return {"rows": num_rows, **peaks}


def _family(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _note(process: psutil.Process, peaks: dict[str, float]) -> None:
    try:
        for kind in ("driver", "cluster"):
            if KINDS[kind](process):
                peaks[f"{kind}_peak_rss_mib"] = peak_rss_mib(process.pid)
        if KINDS["raylet"](process):
            shared = process.memory_info().shared / 1024**2
            before = peaks.get("object_store_peak_mib", 0.0)
            peaks["object_store_peak_mib"] = max(before, shared)
    except (psutil.Error, OSError, IndexError):  # it ended meanwhile
        return


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=positive, default=100)
    parser.add_argument("--queries", type=positive, default=QUERIES)
    parser.add_argument("--repeats", type=positive, default=2)
    parser.add_argument("--engines", type=Path, help="the shipped checkpoint's if left out")
    parser.add_argument("--corpus", type=Path, help="folder that keeps the videos")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--memory-rows", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    engines = args.engines or shipped_engine_dir()
    with tempfile.TemporaryDirectory(prefix="groundserve-batch-") as name:
        folder = Path(name)
        corpus = args.corpus or folder / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        manifest = make_corpus(corpus, num_videos=args.videos, queries=args.queries)
        results: dict[str, Any] = {"cores": available_cpus()}
        if "ways" in args.parts:
            ways = measure_ways(manifest, engines, folder, args.repeats)
            results |= {"rows": args.videos * args.queries, "videos": args.videos, "ways": ways}
            results["against_the_loop"] = compared(ways)
        if "poison" in args.parts:
            results["poison"] = measure_poison(folder / "poison")
        if "memory" in args.parts:
            results["memory"] = [
                measure_memory(rows, folder / f"rows-{rows}") for rows in args.memory_rows
            ]
    write_report(
        args.out,
        "batch runs against a loop over Pipeline: rows a second, processor time, memory",
        results,
        repeats=args.repeats,
    )


if __name__ == "__main__":
    run(main)
