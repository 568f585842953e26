"""A corpus as it is planned: durations drawn at random, and units made by the real planner."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.batch.rows import Row
from groundserve.batch.units import Group, UnitSize, cut_units
from groundserve.options import ScoreOptions

Floats = NDArray[np.float64]
SECONDS_AN_HOUR = 3600.0
MAX_SECONDS = 6 * SECONDS_AN_HOUR
"""Of a video, as `Limits` has it."""
_PICKLED_UNITS = 1000


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """How videos are drawn."""

    median_seconds: float = 300.0
    """Of the lognormal distribution of durations; longer ones than `MAX_SECONDS` are cut there."""
    sigma: float = 1.2
    """Deviation of their logarithm."""
    bytes_per_second: float = 500_000.0
    """Of the files."""

    def draw(self, number: int, rng: np.random.Generator) -> Floats:
        """Return durations in seconds, at least 1."""
        drawn = rng.lognormal(np.log(self.median_seconds), self.sigma, number)
        return np.clip(drawn, 1.0, MAX_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Units:
    """Units of a sample of the corpus, from which those of a run are drawn."""

    videos: tuple[Floats, ...]
    """Of each unit, the worker's seconds of each video."""
    hours: Floats
    """Of video, of each unit."""
    pickled_bytes: float = 0.0
    """What one is on its way to a worker, on average."""

    @property
    def seconds(self) -> Floats:
        """What each unit takes."""
        return np.array([videos.sum() for videos in self.videos])


def plan_units(
    corpus: Corpus,
    seconds_of: Callable[[Floats], Floats],
    *,
    num_videos: int,
    size: UnitSize,
    rng: np.random.Generator,
) -> Units:
    """Draw videos and cut them into units with the planner of the real job.

    Args:
        corpus: How videos are drawn.
        seconds_of: What a worker needs for videos of these durations.
        num_videos: Of the sample.
        size: Where a unit ends.
        rng: Draws.
    """
    durations = corpus.draw(num_videos, rng)
    seconds = seconds_of(durations)
    groups = (
        example_group(number, round(duration * corpus.bytes_per_second))
        for number, duration in enumerate(durations.tolist())
    )
    counts: list[int] = []
    sizes: list[int] = []
    for unit in cut_units(groups, size):
        counts.append(len(unit.groups))
        if len(sizes) < _PICKLED_UNITS:
            sizes.append(len(pickle.dumps(unit)))
    bounds = np.cumsum(counts)[:-1]
    hours = [part.sum() / SECONDS_AN_HOUR for part in np.split(durations, bounds)]
    return Units(
        videos=tuple(np.split(seconds, bounds)),
        hours=np.array(hours),
        pickled_bytes=float(np.mean(sizes)),
    )


def example_group(number: int, num_bytes: int) -> Group:
    """Return a video with one question, as the planner has it."""
    place = f"s3://corpus/{number:010d}.mp4"
    row = Row(
        id=f"{number:010d}",
        video=place,
        place=place,
        query="When does it happen?",
        options=ScoreOptions(),
        position=number,
    )
    return Group(
        place=place, identity=place, num_bytes=num_bytes, rows=(row,), keys=(f"{number:064x}",)
    )
