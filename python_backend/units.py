"""The units of a plan in chunks: what each has of which frames, and which are decoded together.

What is encoded follows the units: a chunk is as many of them as need at most `most_frames` frames,
which is `CHUNK_FRAMES` unless frames are as decoded and large: see `VisionInputs.chunk_frames`.
What is decoded follows the key frames, for a group of pictures that were cut in two would have its
first part decoded twice:

decoded  |  K · ·  |  K · · K ·  |  K · · ·  |      K key frame, · frames up to the next
encoded  |       0       |       1       | 2 |

Each frame is decoded once, however many units and streams show it, and goes to those streams alone:

frames     a b c d e f g h  i j k l m n o p      units of 8 frames
all        a b c d e f g h  i j k l m n o p      a stream that shows all of them
fifth              e                m            one that shows the fifth of each

Shape letters: U units of F frames, n frames of a plan, s streams, u units of one chunk, m frames
that it has of one stream, H and W sides in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from groundserve.engines.manifest import CHUNK_FRAMES
from groundserve.families.plans import FrameStream, VideoPlan
from python_backend.arrays import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Frames that are decoded together."""

    frame_indices: NDArray[np.int64]
    """int64 (n,), ordinals, increasing."""
    shown: NDArray[np.bool_]
    """bool (n, s), which streams show each of them."""

    def __len__(self) -> int:
        return len(self.frame_indices)

    def __getitem__(self, frames: slice) -> Group:
        return Group(frame_indices=self.frame_indices[frames], shown=self.shown[frames])


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamFrames:
    """What a chunk has of one stream."""

    num_frames: int
    """m: the first of those left and those decoded are its own."""
    num_left: int
    """The last ones that it leaves to the next chunk: those beyond its own, and those of its own
    that the next has, too."""
    units: NDArray[np.int64]
    """int64 (u, F'), the F' frames that the stream shows of each unit as places in the m frames."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """Units that follow each other, whose frames are encoded together."""

    groups: tuple[Group, ...]
    """Decoded for it, after what the chunk before left."""
    streams: tuple[StreamFrames, ...]
    """In the family's order."""
    first_unit: int
    """Its place in the plan."""

    @property
    def num_units(self) -> int:
        """U."""
        return len(self.streams[0].units)


def cut_chunks(
    plan: VideoPlan, streams: Sequence[FrameStream], *, most_frames: int = CHUNK_FRAMES
) -> list[Chunk]:
    """Divide the units of a plan; a unit that shows what the one before did opens no chunk."""
    # (n, s)
    shown = shown_frames(plan, streams)
    groups = _with_shown(cut_groups(plan, most_frames=most_frames), shown)
    # (n + 1, s): how many frames before each a stream shows, and all that it shows.
    num_shown = np.vstack([np.zeros_like(shown[:1], np.int64), shown.cumsum(axis=0)])
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
        units = plan.units[start:end]
        chunks.append(
            Chunk(
                groups=tuple(groups[num_groups:num_groups_needed]),
                streams=tuple(
                    StreamFrames(
                        num_frames=int(before[num_needed] - before[begin]),
                        num_left=int(before[num_decoded[num_groups_needed]] - before[next_begin]),
                        units=before[units[:, list(stream.frames)]] - before[begin],
                    )
                    for stream, before in zip(streams, num_shown.T, strict=True)
                ),
                first_unit=start,
            )
        )
        start, num_groups = end, num_groups_needed
    return chunks


def shown_frames(plan: VideoPlan, streams: Sequence[FrameStream]) -> NDArray[np.bool_]:
    """Return bool (n, s), which streams show each of the plan's `decoded_indices`."""
    shown = np.zeros((len(plan.decoded_indices), len(streams)), np.bool_)
    for number, stream in enumerate(streams):
        shown[plan.units[:, list(stream.frames)], number] = True
    return shown


def cut_groups(plan: VideoPlan, *, most_frames: int = CHUNK_FRAMES) -> list[NDArray[np.int64]]:
    """Divide the frames of a plan at key frames, into groups of at most `most_frames`.

    Frames that are decoded from one key frame stay together as long as they fit. Of more, each
    group decodes anew from the key frame, so the short one comes first: what ends early costs
    little. One after another the groups are `plan.decoded_indices`.
    """
    decoded_indices = plan.decoded_indices
    if len(decoded_indices) <= most_frames:
        return [decoded_indices]
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

    As far as the index tells: `groundserve.media` knows the packets.
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


def gather_units(frames: Array, units: NDArray[np.int64]) -> Array:
    """Return what a stream has of units: uint8 (u, H, W, 3), or (u, F', H, W, 3).

    Places in `frames`, uint8 (m, H, W, 3), are int64 (u, F'). Nothing is copied where each unit is
    the frame after the last one's.
    """
    if units.shape[1] > 1:
        return frames[units]
    places = units[:, 0]
    if (np.diff(places) == 1).all():
        return frames[places[0] : places[-1] + 1]
    return frames[places]


def _with_shown(groups: list[NDArray[np.int64]], shown: NDArray[np.bool_]) -> list[Group]:
    """Give each group its rows of (n, s)."""
    rows = np.split(shown, np.cumsum([len(group) for group in groups])[:-1])
    return [
        Group(frame_indices=group, shown=of_group)
        for group, of_group in zip(groups, rows, strict=True)
    ]
