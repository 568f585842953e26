"""Who decodes the frames asked for fastest?

    python -m benchmarks.decode --media DIR --out DIR [--only codec=h264,gop=12|250]
        [--libraries ours,pyav] [--repeats 3] [--cell-seconds 60] [--summary JSON] [--plan]

A cell is a video (codec, height, key interval, length), a number of frames spread over it, exact or
moved to key frames, resized or whole; `_decode_cells` has them all. In each, every library has a
process of its own, which has imported it and decoded one frame before anything is timed; then they
take turns, in an order drawn anew each round, with the file in the page cache. Opening the file is
timed. Wall time, the CPU seconds of the process and its workers, and peak memory are kept. A
library that fails is marked with its error. Videos that are missing are made first
(`benchmarks.media`).

`--out` keeps one JSON a cell; a cell that is there is not run again, so a run may be stopped.
`--plan` prints the cells to run. A further round of a cell is begun only while it has taken less
than `--cell-seconds`. `--summary` writes one JSON of all cells in `--out`: each with its shifts,
the seconds of each library and round and the ratios of the others to ours, and over all how often
ours is fastest, which it is where no other takes less than 0.97 of its time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._command import positive, run
from benchmarks._decode_cells import (
    IMAGE_SIZE,
    Cell,
    all_cells,
    cell_result,
    choose_cells,
    summarise,
)
from benchmarks._decoders import LIBRARIES, DecoderProcess, Job
from benchmarks._machine import describe_machine, measure_peaks
from benchmarks._report import (
    commit,
    describe_video,
    package_version,
    read_through,
    write_report,
    write_text,
)
from benchmarks.media import make_video

_MODULES = {"ours": "groundserve", "pyav": "av", "opencv": "cv2"}
"""What a library is imported as, where that is not its name here."""


def run_cell(
    cell: Cell, media: Path, libraries: list[str], *, repeats: int, cell_seconds: float
) -> dict[str, Any]:
    """Measure all libraries in turns, and begin no further round after `cell_seconds`."""
    path = make_video(
        media, codec=cell.codec, height=cell.height, gop=cell.gop, seconds=cell.seconds
    )
    read_through(path)
    indices = [int(index) for index in cell.frame_indices()[0]]
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
            if spent >= cell_seconds:
                break
    return cell_result(cell, runs) | {
        "commit": commit(),
        "cpu_model": describe_machine()["cpu_model"],
        "input": describe_video(path),
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


def one_line(result: dict[str, Any]) -> str:
    """Return a cell's times, or errors, in one line."""
    words = []
    for name, one in result["libraries"].items():
        if "error" in one:
            words.append(f"{name} failed ({one['error'][:40]})")
            continue
        wall, cpu = (float(np.median(one[f"{clock}_seconds"])) for clock in ("wall", "cpu"))
        words.append(f"{name} {wall:.2f} s, cpu {cpu:.2f}")
    return "; ".join(words)


def write_summary(path: Path, folder: Path, *, repeats: int) -> None:
    """Write one report of all cells in a folder."""
    cells = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    results = {
        # A run that was stopped may go on with another commit, or on another machine.
        "measured_on": Counter(f"{one['commit']}, {one['cpu_model']}" for one in cells),
        "libraries": {
            name: {"version": package_version(one.distribution), "how": one.how}
            for name, one in LIBRARIES.items()
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
    parser.add_argument("--cell-seconds", type=float, default=60.0, help="begin no round after")
    parser.add_argument("--summary", type=Path, help="JSON of all cells in --out")
    parser.add_argument("--plan", action="store_true", help="print what would run")
    args = parser.parse_args()
    libraries = args.libraries.split(",")
    _check_installed(libraries)
    try:
        chosen = choose_cells(all_cells(), args.only)
    except ValueError as error:
        parser.error(str(error))
    files = {args.out / f"{cell.name}.json": cell for cell in chosen}
    missing = [(file, cell) for file, cell in files.items() if not file.exists()]
    # Drawn once, so that what slows the machine for a while meets cells of all kinds.
    random.Random(0).shuffle(missing)
    if args.plan:
        print("\n".join(cell.name for _, cell in missing))
        return
    for number, (file, cell) in enumerate(missing, 1):
        result = run_cell(
            cell, args.media, libraries, repeats=args.repeats, cell_seconds=args.cell_seconds
        )
        write_text(file, json.dumps(result, indent=2) + "\n")
        print(f"{number}/{len(missing)} {cell.name}: {one_line(result)}", flush=True)
    if args.summary is not None:
        write_summary(args.summary, args.out, repeats=args.repeats)


if __name__ == "__main__":
    run(main)
