"""The units of a plan in chunks: what each has of which frames, and which are decoded together.

What is encoded follows the units: a chunk is as many of them as need at most `most_frames` frames,
which is `CHUNK_FRAMES` unless frames are as decoded and large: see `VisionInputs.chunk_frames`.
What is decoded follows the key frames, for a group of pictures that were cut in two would have its
first part decoded twice:

decoded  |  K · ·  |  K · · K ·  |  K · · ·  |      K key frame, · frames up to the next
encoded  |       0       |       1       | 2 |

Each frame is decoded once, however many units show it.

Shape letters: U units of F frames, n frames of a plan, u units and m frames of one chunk, H and W
sides in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from groundserve.families.plans import FrameStream, VideoPlan
from groundserve.manifest import CHUNK_FRAMES
from python_backend.arrays import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """Units that follow each other, whose frames are encoded together."""

    groups: tuple[NDArray[np.int64], ...]
    """Each int64, increasing: ordinals that are decoded together for it, after those that the chunk
    before left."""
    num_frames: int
    """m: the first of those left and those decoded are its own."""
    num_left: int
    """The last ones that it leaves to the next chunk: those beyond its own, and those of its own
    that the next shows, too."""
    units: NDArray[np.int64]
    """int64 (u, F), the frames of each unit as places in the chunk's m frames."""


def cut_chunks(plan: VideoPlan, *, most_frames: int = CHUNK_FRAMES) -> list[Chunk]:
    """Divide the units of a plan; a unit that shows what the one before did opens no chunk.

    Args:
        plan: Of the video; its units have at most `most_frames` frames.
        most_frames: Of a chunk, and of a group.
    """
    groups = cut_groups(plan, most_frames=most_frames)
    # Frames that are decoded once so many groups are: 0, then after each.
    num_decoded = [0, *accumulate(map(len, groups))]
    # (U,): rows and columns of `units` never fall, so these are the places of a unit's frames that
    # come first and last, and a run of units needs what lies from its first to its last.
    first, last = plan.units[:, 0], plan.units[:, -1]
    chunks: list[Chunk] = []
    start = num_groups = 0
    while start < len(plan.units):
        begin = int(first[start])
        # Units that end before the chunk is full.
        end = int(np.searchsorted(last, begin + most_frames))
        assert end > start, "a unit has at most most_frames frames"
        num_needed = int(last[end - 1]) + 1
        # The fewest groups that have the last frame.
        num_groups_needed = int(np.searchsorted(num_decoded, num_needed))
        next_begin = int(first[end]) if end < len(first) else num_needed
        chunks.append(
            Chunk(
                groups=tuple(groups[num_groups:num_groups_needed]),
                num_frames=num_needed - begin,
                num_left=num_decoded[num_groups_needed] - next_begin,
                units=plan.units[start:end] - begin,
            )
        )
        start, num_groups = end, num_groups_needed
    return chunks


def cut_groups(plan: VideoPlan, *, most_frames: int = CHUNK_FRAMES) -> list[NDArray[np.int64]]:
    """Divide the frames of a plan at key frames, into groups of at most `most_frames`.

    Frames that are decoded from one key frame stay together as long as they fit. Of more, each
    group decodes anew from the key frame, so the short one comes first: what ends early costs
    little.

    Returns:
        Each int64, increasing, >= 1 ordinals; one after another they are `plan.decoded_indices`.
    """
    decoded_indices = plan.decoded_indices
    # (n,)
    starts = decode_starts(plan, decoded_indices)
    runs = np.split(decoded_indices, np.flatnonzero(np.diff(starts)) + 1)
    groups: list[list[NDArray[np.int64]]] = []
    room = 0
    for run in runs:
        borders = range(len(run) % most_frames or most_frames, len(run), most_frames)
        for piece in np.split(run, borders):
            if len(piece) > room:
                groups.append([])
                room = most_frames
            groups[-1].append(piece)
            room -= len(piece)
    return [np.concatenate(pieces) for pieces in groups]


def decode_starts(plan: VideoPlan, frame_indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return int64 (n,), of each frame the ordinal of the one that decoding it starts at.

    As far as the index tells: `groundserve.media` knows the packets, and where decoding starts.

    Args:
        plan: Of the video.
        frame_indices: int64 (n,), ordinals, increasing.
    """
    # (K,): ordinals of the key frames.
    keys = np.flatnonzero(plan.index.is_key)
    # Where no key frame comes before, decoding starts where the file does. "right": a key frame
    # needs itself only.
    return np.append(0, keys)[np.searchsorted(keys, frame_indices, side="right")]


def decoded_pixels(plan: VideoPlan, *, most_frames: int = CHUNK_FRAMES) -> int:
    """Return the pixels that a decoder makes of a plan, before resizing, group by group.

    Each group decodes what its frames need from the key frames before them. Frames of one key frame
    that are too many for a group are decoded in several, each from the key frame on.

    Args:
        plan: Of the video.
        most_frames: Of a group.
    """
    groups = cut_groups(plan, most_frames=most_frames)
    # (n,) each
    targets = np.concatenate(groups)
    starts = decode_starts(plan, targets)
    group_numbers = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    # (n,): targets with the same start share one decode within a group, which runs to the last of
    # them.
    is_last = np.append((np.diff(starts) != 0) | (np.diff(group_numbers) != 0), True)
    num_frames = int((targets - starts + 1)[is_last].sum())
    return num_frames * plan.index.width * plan.index.height


def gather_units(frames: Array, units: NDArray[np.int64], stream: FrameStream) -> Array:
    """Return what a stream has of units: uint8 (u, H, W, 3), or (u, F, H, W, 3).

    Args:
        frames: uint8 (m, H, W, 3). Not copied where each unit is the frame after the last one's.
        units: int64 (u, F'), the frames of each unit as places in `frames`.
        stream: Which F of a unit's frames it takes.
    """
    if len(stream.frames) > 1:
        return frames[units[:, list(stream.frames)]]
    places = units[:, stream.frames[0]]
    if (np.diff(places) == 1).all():
        return frames[places[0] : places[-1] + 1]
    return frames[places]
