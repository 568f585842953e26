"""Who decodes the frames asked for fastest?

    python -m benchmarks.decode --media DIR --out DIR [--only codec=h264,gop=12|250]
        [--libraries ours,pyav] [--repeats 3] [--summary JSON]

A cell is a video and a number of frames spread over it, exact or moved to key frames, resized or
whole. Every library has a process of its own, which has decoded one frame before anything is timed;
they take turns in an order drawn anew each round, with the file in the page cache.

`--out` keeps one JSON a cell; a cell that is there is not run again, so a run may be stopped. A
further round of a cell is begun only while it has taken less than a minute. `--summary` writes one
JSON of all cells in `--out`. Videos that are missing are made first.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks._command import positive, run
from benchmarks._decoders import LIBRARIES, DecoderProcess, Job
from benchmarks._machine import describe_machine, measure_peaks
from benchmarks._report import (
    commit,
    describe_video,
    package_version,
    read_through,
    write_json,
    write_report,
)
from benchmarks.media import DECODE, FRAMES_PER_SECOND, Codec, make_video
from groundserve.families.videoitg.sampling import snap_to_keyframes

_MODULES = {"ours": "groundserve", "pyav": "av", "opencv": "cv2"}
"""What a library is imported as, where that is not its name here."""


IMAGE_SIZE = 384
CELL_SECONDS = 60.0
TIE = 0.97
"""Who needs at most 1/0.97 of the fastest other's time shares the first place."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One video and the frames that are taken of it."""

    codec: Codec
    height: int
    gop: int
    seconds: int
    num_frames: int
    """Spread uniformly over the video, first and last included."""
    seek: Literal["exact", "keyframe"]
    """keyframe: each of these moves to the key frame nearest to it, and no frame comes twice."""
    output: Literal["resized", "full"]
    """resized: to a side of 384; full: as decoded."""

    @property
    def name(self) -> str:
        """The cell in a file's name."""
        return (
            f"{self.codec}_{self.height}p_gop{self.gop}_{self.seconds}s_{self.num_frames}frames_"
            f"{self.seek}_{self.output}"
        )

    def frame_indices(self) -> NDArray[np.int64]:
        """Return int64 (m,) ordinals."""
        num_source_frames = self.seconds * FRAMES_PER_SECOND
        wanted = np.linspace(0, num_source_frames - 1, self.num_frames).astype(np.int64)
        if self.seek == "exact":
            return wanted
        is_key = np.arange(num_source_frames) % self.gop == 0
        times = np.arange(num_source_frames) / FRAMES_PER_SECOND
        return snap_to_keyframes(wanted, is_key, times)[0]


def all_cells() -> list[Cell]:
    """Return the whole matrix."""
    cells = []
    for video in DECODE:
        cells += [
            Cell(**video, num_frames=num_frames, seek=seek, output="resized")
            for num_frames in (64, 512)
            for seek in ("exact", "keyframe")
        ]
        # 512 of 1080p are 3 GB: whole frames are decoded at 64.
        cells.append(Cell(**video, num_frames=64, seek="exact", output="full"))
    return cells


def choose_cells(only: str) -> list[Cell]:
    """Return the cells that `only` names: "codec=h264,gop=12"; a value may be "480|1080"."""
    chosen = all_cells()
    for pair in filter(None, only.split(",")):
        name, _, values = pair.partition("=")
        chosen = [cell for cell in chosen if str(getattr(cell, name, "")) in values.split("|")]
    return chosen


def run_cell(cell: Cell, media: Path, libraries: list[str], *, repeats: int) -> dict[str, Any]:
    """Measure all libraries in turns, and begin no further round after a minute."""
    path = make_video(
        media, codec=cell.codec, height=cell.height, gop=cell.gop, seconds=cell.seconds
    )
    read_through(path)
    indices = cell.frame_indices().tolist()
    image_size = IMAGE_SIZE if cell.output == "resized" else None
    order = random.Random(cell.name)
    runs: dict[str, list[dict[str, Any]]] = {}
    job = Job(path=str(path), frame_indices=indices, gop=cell.gop, image_size=image_size)
    with ExitStack() as stack:
        processes = {name: stack.enter_context(closing(DecoderProcess(name))) for name in libraries}
        for name, process in processes.items():
            first = process.run(replace(job, frame_indices=indices[:1]))
            runs[name] = [first] if "error" in first else []
        spent = 0.0
        for _ in range(repeats):
            running = [name for name in libraries if not any("error" in one for one in runs[name])]
            for name in order.sample(running, len(running)):
                answer = processes[name].run(job)
                runs[name].append(answer)
                spent += answer.get("wall_seconds", 0.0)
            if spent >= CELL_SECONDS:
                break
    return cell_result(cell, runs) | {
        "commit": commit(),
        "cpu_model": describe_machine()["cpu_model"],
        "input": describe_video(path),
    }


def cell_result(cell: Cell, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what is kept of a cell, of each library's answers, round by round.

    The last one of a library that failed holds its error, and takes it out of the cell.
    """
    libraries: dict[str, dict[str, Any]] = {}
    for name, answers in runs.items():
        if "error" in answers[-1]:
            libraries[name] = {"error": answers[-1]["error"]}
            continue
        libraries[name] = {
            "wall_seconds": [answer["wall_seconds"] for answer in answers],
            "cpu_seconds": [answer["cpu_seconds"] for answer in answers],
            "peak_rss_mib": max(answer["peak_rss_mib"] for answer in answers),
            "shape": answers[-1]["shape"],
        }
    return {
        **asdict(cell),
        "num_decoded_targets": len(cell.frame_indices()),
        "libraries": libraries,
        "ratios": {clock: _ratios(libraries, clock) for clock in ("wall_seconds", "cpu_seconds")},
    }


def _ratios(libraries: dict[str, dict[str, Any]], clock: str) -> dict[str, float]:
    """Return how many times ours each other took: the median over pairs of one round."""
    ours = libraries.get("ours", {}).get(clock)
    if ours is None:
        return {}
    return {
        name: float(np.median(np.array(one[clock]) / ours))
        for name, one in libraries.items()
        if name != "ours" and clock in one
    }


def summarise(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return, for each kind of cell, how often ours is fastest by wall time and by how much.

    The ratio of a cell is that of the fastest other library: its time over ours, above 1 where ours
    is faster. Where ours failed the ratio is 0; where all others did, the cell counts as ours, and
    has no ratio.
    """
    kinds = {
        "exact": ("exact", "resized"),
        "keyframe": ("keyframe", "resized"),
        "full": ("exact", "full"),
    }
    found = {}
    for kind, place in kinds.items():
        members = [cell for cell in cells if (cell["seek"], cell["output"]) == place]
        found[kind] = {"wall_seconds": _summarise(members)}
    return found


def _summarise(cells: list[dict[str, Any]]) -> dict[str, Any]:
    ratios: dict[str, tuple[float, str]] = {}
    num_alone = 0
    for cell in cells:
        name = Cell(**{field.name: cell[field.name] for field in fields(Cell)}).name
        others = cell["ratios"]["wall_seconds"]
        if "error" in cell["libraries"]["ours"]:
            ratios[name] = (0.0, "all")
        elif others:
            fastest = min(others, key=lambda other: others[other])
            ratios[name] = (others[fastest], fastest)
        else:
            num_alone += 1
    won = sum(ratio >= TIE for ratio, _ in ratios.values()) + num_alone
    worst = min(ratios, key=lambda name: ratios[name][0], default=None)
    return {
        "num_cells": len(cells),
        "num_fastest": won,
        "share_fastest": won / len(cells) if cells else None,
        "median_ratio": float(np.median([one for one, _ in ratios.values()])) if ratios else None,
        "worst": worst and {"cell": worst, "ratio": ratios[worst][0], "library": ratios[worst][1]},
    }


def _check_installed(libraries: list[str]) -> None:
    for name in libraries:
        if name not in LIBRARIES:
            raise SystemExit(f"--libraries takes {', '.join(LIBRARIES)}, got {name!r}")
        if importlib.util.find_spec(_MODULES.get(name, name)) is None:
            raise SystemExit(
                f"{LIBRARIES[name].distribution} is not installed: "
                "pip install -r benchmarks/requirements.txt, or leave it out of --libraries"
            )


def write_summary(path: Path, folder: Path, *, repeats: int) -> None:
    """Write one report of all cells in a folder."""
    cells = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    results = {
        # A run that was stopped may go on with another commit, or on another machine.
        "measured_on": Counter(f"{one['commit']}, {one['cpu_model']}" for one in cells),
        "libraries": {
            name: {"version": package_version(one.distribution)} for name, one in LIBRARIES.items()
        },
        "cells": cells,
        "summary": summarise(cells),
    }
    write_report(
        path,
        "who decodes the frames asked for fastest",
        results,
        inputs=list({one["input"]["name"]: one["input"] for one in cells}.values()),
        warm_up="one frame of the same video, in each process",
        repeats=repeats,
        errors=[
            f"{one['codec']} {one['height']}p, GOP {one['gop']}, {name}: {library['error']}"
            for one in cells
            for name, library in one["libraries"].items()
            if "error" in library
        ],
        peaks=measure_peaks(),
    )


def main() -> None:
    """Run the cells that are not there yet, then sum up all that are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--media", type=Path, required=True, help="folder of the videos")
    parser.add_argument("--out", type=Path, required=True, help="folder of one JSON a cell")
    parser.add_argument("--only", default="", help="cells to run, such as codec=h264,gop=12|250")
    parser.add_argument("--libraries", default=",".join(LIBRARIES), help="(default: %(default)s)")
    parser.add_argument("--repeats", type=positive, default=3, help="rounds of a cell at most")
    parser.add_argument("--summary", type=Path, help="JSON of all cells in --out")
    args = parser.parse_args()
    libraries = args.libraries.split(",")
    _check_installed(libraries)
    files = {args.out / f"{cell.name}.json": cell for cell in choose_cells(args.only)}
    if not files:
        parser.error(f"--only {args.only} leaves no cell")
    missing = [(file, cell) for file, cell in files.items() if not file.exists()]
    # Drawn once, so that what slows the machine for a while meets cells of all kinds.
    random.Random(0).shuffle(missing)
    for number, (file, cell) in enumerate(missing, 1):
        result = run_cell(cell, args.media, libraries, repeats=args.repeats)
        write_json(file, result)
        ratios = result["ratios"]["wall_seconds"]
        print(f"{number}/{len(missing)} {cell.name}, others over ours: {ratios}", flush=True)
    if args.summary is not None:
        write_summary(args.summary, args.out, repeats=args.repeats)


if __name__ == "__main__":
    run(main)
