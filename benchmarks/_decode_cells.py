"""The cells of `benchmarks.decode`: what is decoded in each, what one costs, what all say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.media import DECODE, FRAMES_PER_SECOND, Codec
from groundserve.families.videoitg.sampling import snap_to_keyframes

IMAGE_SIZE = 384
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

    def frame_indices(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return int64 (m,) ordinals, and the seconds by which each wanted frame moved."""
        num_source_frames = self.seconds * FRAMES_PER_SECOND
        wanted = np.linspace(0, num_source_frames - 1, self.num_frames).astype(np.int64)
        if self.seek == "exact":
            return wanted, np.zeros(len(wanted))
        is_key = np.arange(num_source_frames) % self.gop == 0
        times = np.arange(num_source_frames) / FRAMES_PER_SECOND
        # Each alone, for the server's own rule gives the largest shift only.
        shifts = [
            snap_to_keyframes(wanted[i : i + 1], is_key, times)[1] for i in range(len(wanted))
        ]
        return snap_to_keyframes(wanted, is_key, times)[0], np.array(shifts)


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


def choose_cells(cells: Iterable[Cell], only: str) -> list[Cell]:
    """Keep the cells that `only` names: "codec=h264,gop=12"; a value may be "480|1080"."""
    chosen = list(cells)
    for pair in filter(None, only.split(",")):
        name, _, values = pair.partition("=")
        names = [field.name for field in fields(Cell)]
        if name not in names:
            raise ValueError(f"--only takes {', '.join(names)}, got {name!r}")
        chosen = [cell for cell in chosen if str(getattr(cell, name)) in values.split("|")]
    if not chosen:
        raise ValueError(f"--only {only} leaves no cell: see --plan without it")
    return chosen


def cell_result(cell: Cell, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what is kept of a cell, of each library's answers, round by round.

    The last one of a library that failed holds its error, and takes it out of the cell.
    """
    indices, shifts = cell.frame_indices()
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
        "num_decoded_targets": len(indices),
        "shift_seconds": {"mean": float(shifts.mean()), "max": float(shifts.max())},
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
    """Return, for each kind of cell and each clock, how often ours is fastest and by how much.

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
        clocks = ("wall_seconds", "cpu_seconds")
        found[kind] = {clock: _summarise(members, clock) for clock in clocks}
    return found


def _summarise(cells: list[dict[str, Any]], clock: str) -> dict[str, Any]:
    ratios: dict[str, tuple[float, str]] = {}
    num_alone = 0
    for cell in cells:
        name = Cell(**{field.name: cell[field.name] for field in fields(Cell)}).name
        others = cell["ratios"][clock]
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
        "lost": {
            name: {"ratio": ratio, "library": library}
            for name, (ratio, library) in sorted(ratios.items(), key=lambda item: item[1])
            if ratio < TIE
        },
    }
