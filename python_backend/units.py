"""The units of a plan in chunks: which frames are decoded together, and what each unit has of them.

A chunk is as many units as need at most `CHUNK_FRAMES` frames. Each frame is decoded once, however
many units show it.

Shape letters: U units of F frames, u units and m frames of one chunk, S side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.families.base import FrameStream, VideoPlan
from groundserve.manifest import CHUNK_FRAMES
from python_backend.arrays import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """Units that follow each other, whose frames are decoded together."""

    frame_indices: NDArray[np.int64]
    """int64 (m - `num_kept`,), ordinals of its frames that no chunk before has, increasing."""
    num_kept: int
    """Frames that it shares with the chunk before, whose last and its own first ones they are."""
    units: NDArray[np.int64]
    """int64 (u, F), the frames of each unit as places in the chunk's m frames."""


def cut_chunks(plan: VideoPlan) -> list[Chunk]:
    """Divide the units of a plan; a unit that shows what the one before did opens no chunk."""
    decoded_indices = plan.decoded_indices
    # (U,): rows and columns of `units` never fall, so these are the places of a unit's frames that
    # come first and last, and a run of units needs what lies from its first to its last.
    first, last = plan.units[:, 0], plan.units[:, -1]
    chunks: list[Chunk] = []
    start = num_decoded = 0
    while start < len(plan.units):
        begin = int(first[start])
        # Units that end before the chunk is full.
        end = int(np.searchsorted(last, begin + CHUNK_FRAMES))
        assert end > start, "a unit has at most CHUNK_FRAMES frames"
        num_kept = max(0, num_decoded - begin)
        num_needed = int(last[end - 1]) + 1
        chunks.append(
            Chunk(
                frame_indices=decoded_indices[begin + num_kept : num_needed],
                num_kept=num_kept,
                units=plan.units[start:end] - begin,
            )
        )
        start, num_decoded = end, num_needed
    return chunks


def gather_units(frames: Array, units: NDArray[np.int64], stream: FrameStream) -> Array:
    """Return what a stream has of units: uint8 (u, S, S, 3), or (u, F, S, S, 3).

    Args:
        frames: uint8 (m, S, S, 3). Not copied where each unit is the frame after the last one's.
        units: int64 (u, F'), the frames of each unit as places in `frames`.
        stream: Which F of a unit's frames it takes.
    """
    if len(stream.frames) > 1:
        return frames[units[:, list(stream.frames)]]
    places = units[:, stream.frames[0]]
    if (np.diff(places) == 1).all():
        return frames[places[0] : places[-1] + 1]
    return frames[places]
