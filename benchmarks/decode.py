"""Who decodes the frames asked for fastest, and are the pixels right?

    python -m benchmarks.decode --media DIR --out DIR [--only codec=h264,gop=12|250]
        [--libraries ours,pyav] [--repeats 3] [--cell-seconds 60] [--summary JSON] [--plan]

A cell is a video (codec, height, key interval, length), a number of frames spread over it, exact or
moved to key frames, resized or whole; `_decode_cells` has them all. In each, every library has a
process of its own, which has imported it and decoded one frame before anything is timed; then they
take turns, in an order drawn anew each round, with the file in the page cache. Opening the file is
timed. Wall time, the CPU seconds of the process and its workers, and peak memory are kept, and of
whole frames how they differ from decoding in order (`_pixels`). A library that fails is marked with
its error. Videos that are missing are made first (`benchmarks.media`).

`--out` keeps one JSON a cell; a cell that is there is not run again, so a run may be stopped.
`--plan` prints the cells to run and about how long they take. A further round of a cell is begun
only while it has taken less than `--cell-seconds`. `--summary` writes one JSON of all cells in
`--out`, whose "results" have

    measured_on {commit and processor: number of cells}
    libraries   {name: {"version", "how"}}
    cells       [{codec, height, gop, seconds, num_frames, seek, output, num_decoded_targets,
                  shift_seconds: {mean, max},
                  libraries: {name: {wall_seconds: [one a round], cpu_seconds: [...], peak_rss_mib,
                      shape, pixels: {frames, share_equal, largest_difference, off_by}}
                      or {"error"}},
                  ratios: {wall_seconds|cpu_seconds: {other library: its time over ours, the
                      median over rounds}}}]
    summary     {exact|keyframe|full: {wall_seconds|cpu_seconds: {num_cells, num_fastest,
                      share_fastest, median_ratio, worst: {cell, ratio, library}, lost}}}
    pixels      {name: {num_cells, num_failed, num_compared, num_equal, num_other_size,
                      largest_difference, frames_off}}: of cells, but for the last two

Ours is fastest where no other takes less than 0.97 of its time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import random
import tempfile
from collections import Counter
from contextlib import ExitStack
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
    summarise_pixels,
)
from benchmarks._decode_process import DecoderProcess
from benchmarks._decoders import LIBRARIES, Job
from benchmarks._machine import describe_machine, measure_peaks
from benchmarks._media import make_video, repeated_seconds
from benchmarks._pixels import compare
from benchmarks._report import commit, describe_video, package_version, write_report

_MODULES = {"ours": "groundserve", "pyav": "av", "opencv": "cv2"}
"""What a library is imported as, where that is not its name here."""


def run_cell(
    cell: Cell, media: Path, libraries: list[str], *, repeats: int, cell_seconds: float
) -> dict[str, Any]:
    """Measure all libraries in turns.

    Args:
        cell: What to decode.
        media: Folder of the videos.
        libraries: Their names in `LIBRARIES`.
        repeats: Rounds at most.
        cell_seconds: No further round is begun once those before took this long together.
    """
    path = make_video(media, **cell.video)
    _read_through(path)
    indices = [int(index) for index in cell.frame_indices()[0]]
    image_size = IMAGE_SIZE if cell.output == "resized" else None
    order = random.Random(cell.name)
    runs: dict[str, list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes = {name: stack.enter_context(DecoderProcess(name)) for name in libraries}

        def job(frame_indices: list[int], save_as: Path | None = None) -> Job:
            return Job(
                path=str(path),
                frame_indices=frame_indices,
                gop=cell.gop,
                image_size=image_size,
                save_as=None if save_as is None else str(save_as),
            )

        for name, process in processes.items():
            first = process.run(job(indices[:1]))
            runs[name] = [first] if "error" in first else []
        spent = 0.0
        for number in range(repeats):
            running = [name for name in libraries if not _has_failed(runs[name])]
            for name in order.sample(running, len(running)):
                keeps = number == 0 and cell.output == "full"
                answer = processes[name].run(
                    job(indices, folder / f"{name}.npy" if keeps else None)
                )
                runs[name].append(answer)
                spent += answer.get("wall_seconds", 0.0)
            if spent >= cell_seconds:
                break
        found = {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}
        pixels = {}
        if found:
            video = cell.video | {"seconds": repeated_seconds(cell.seconds)}
            pixels = compare(make_video(media, **video), indices, found)
    return cell_result(cell, runs, pixels) | {
        "commit": commit(),
        "cpu_model": describe_machine()["cpu_model"],
        "input": describe_video(path),
    }


def _has_failed(answers: list[dict[str, Any]]) -> bool:
    return bool(answers) and "error" in answers[-1]


def _read_through(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def _check_installed(libraries: list[str]) -> None:
    for name in libraries:
        if name not in LIBRARIES:
            raise SystemExit(f"--libraries takes {', '.join(LIBRARIES)}, got {name!r}")
        if importlib.util.find_spec(_MODULES.get(name, name)) is None:
            raise SystemExit(
                f"{LIBRARIES[name].distribution} is not installed: "
                "pip install -r benchmarks/requirements.txt, or leave it out of --libraries"
            )


def print_plan(
    cells: list[tuple[Path, Cell]], libraries: list[str], *, repeats: int, cell_seconds: float
) -> None:
    """Print each cell with about the seconds it takes, and the minutes of all."""
    seconds = []
    for _, cell in cells:
        a_round = cell.estimated_seconds() * len(libraries)
        rounds = min(repeats, max(1, math.ceil(cell_seconds / a_round)))
        # A process starts in some 2 s, with torch in it.
        seconds.append(2 * len(libraries) + rounds * a_round)
        print(f"{seconds[-1]:6.0f} s  {rounds} rounds  {cell.name}")
    print(
        f"{len(cells)} cells, about {sum(seconds) / 60:.0f} minutes on two idle cores", flush=True
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


def main() -> None:
    """Run the cells that are not there yet, then sum up all that are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--media", type=Path, required=True, help="folder of the videos")
    parser.add_argument("--out", type=Path, required=True, help="folder of one JSON a cell")
    parser.add_argument("--only", default="", help="cells to run, such as codec=h264,gop=12|250")
    parser.add_argument("--libraries", default=",".join(LIBRARIES), help="(default: %(default)s)")
    parser.add_argument("--repeats", type=positive, default=3, help="rounds of a cell at most")
    parser.add_argument(
        "--cell-seconds",
        type=float,
        default=60.0,
        help="no further round once those before took this long",
    )
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
    print_plan(missing, libraries, repeats=args.repeats, cell_seconds=args.cell_seconds)
    if args.plan:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    for number, (file, cell) in enumerate(missing, 1):
        result = run_cell(
            cell, args.media, libraries, repeats=args.repeats, cell_seconds=args.cell_seconds
        )
        part = file.with_suffix(".part")
        part.write_text(json.dumps(result, indent=2) + "\n")
        part.rename(file)
        print(f"{number}/{len(missing)} {cell.name}: {one_line(result)}", flush=True)
    if args.summary is not None:
        cells = [json.loads(file.read_text()) for file in sorted(args.out.glob("*.json"))]
        write_report(
            args.summary,
            "who decodes the frames asked for fastest, and are the pixels right",
            {
                # A run that was stopped may go on with another commit, or on another machine.
                "measured_on": Counter(f"{one['commit']}, {one['cpu_model']}" for one in cells),
                "libraries": {
                    name: {"version": package_version(one.distribution), "how": one.how}
                    for name, one in LIBRARIES.items()
                },
                "cells": cells,
                "summary": summarise(cells),
                "pixels": summarise_pixels(cells),
            },
            inputs=list({one["input"]["name"]: one["input"] for one in cells}.values()),
            warm_up="one frame of the same video, in each process",
            repeats=args.repeats,
            errors=[
                f"{one['codec']} {one['height']}p, GOP {one['gop']}, {name}: {library['error']}"
                for one in cells
                for name, library in one["libraries"].items()
                if "error" in library
            ],
            peaks=measure_peaks(),
        )


if __name__ == "__main__":
    run(main)
