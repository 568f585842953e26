"""Pieces of a video, each a small file of its own, with the frames wanted out of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import ge
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.media.stream import StreamInfo


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """n self-contained files laid end to end, and m target frames in them (m >= n >= 1).

    The four arrays and the description are the tensors `SEGMENTS`, `SEGMENT_OFFSETS`,
    `LOCAL_FRAMES`, `LOCAL_OFFSETS` and `STREAM` of the model `video_decode`, so they may come from
    the wire; objects that break a rule below cannot be made. Segment i is MP4, or Matroska where
    MP4 cannot hold the codec.
    """

    data: NDArray[np.uint8]
    """uint8 (B,): the files."""
    offsets: NDArray[np.int64]
    """int64 (n+1,), 0 to B, increasing: file i is data[offsets[i]:offsets[i+1]]."""
    local_frames: NDArray[np.int32]
    """int32 (m,): ordinals of the targets within their own segment, increasing in each."""
    local_offsets: NDArray[np.int64]
    """int64 (n+1,), 0 to m, increasing: segment i's targets are
    local_frames[local_offsets[i]:local_offsets[i+1]]."""
    stream: StreamInfo
    """What is in the files; no target lies past its segment's frame count."""

    def __post_init__(self) -> None:
        _check_array("data", self.data, np.uint8)
        _check_array("local_frames", self.local_frames, np.int32)
        _check_offsets("offsets", self.offsets, total=len(self.data))
        _check_offsets("local_offsets", self.local_offsets, total=len(self.local_frames))
        if len(self.offsets) != len(self.local_offsets):
            raise InvalidRequestError(
                "offsets and local_offsets must have the same length, "
                f"got {len(self.offsets)} and {len(self.local_offsets)}"
            )
        counts = self.stream.frame_counts
        if len(counts) != self.num_segments:
            raise InvalidRequestError(
                f"frame_counts must have one entry for each of {self.num_segments} segments, "
                f"got {len(counts)}"
            )
        # Offsets increase strictly, so each segment has a first and a last target. Plain numbers:
        # for the few dozen of a group numpy's calls take longer.
        frames, borders = self.local_frames.tolist(), self.local_offsets.tolist()
        for (begin, end), count in zip(pairwise(borders), counts, strict=True):
            of_segment = frames[begin:end]
            if of_segment[0] < 0 or any(map(ge, of_segment, of_segment[1:])):
                raise InvalidRequestError(
                    "local_frames must be >= 0 and increase within each segment"
                )
            if of_segment[-1] >= count:
                raise InvalidRequestError(
                    f"local_frames must be < {count}, the frames of their segment, "
                    f"got {of_segment[-1]}"
                )

    @classmethod
    def concatenate(
        cls,
        files: Sequence[bytes],
        local_frames: Sequence[NDArray[np.int32]],
        *,
        stream: StreamInfo,
    ) -> Segments:
        """Lay out one file and its targets a segment."""
        return cls(
            data=np.frombuffer(b"".join(files), np.uint8),
            offsets=_offsets_of(files),
            local_frames=np.concatenate(local_frames),
            local_offsets=_offsets_of(local_frames),
            stream=stream,
        )

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The four arrays by name; with `stream`, all there is."""
        return {name: value for name, value in vars(self).items() if name != "stream"}

    @property
    def num_segments(self) -> int:
        """Files n."""
        return len(self.offsets) - 1

    @property
    def num_frames(self) -> int:
        """Targets m."""
        return len(self.local_frames)

    def __iter__(self) -> Iterator[tuple[memoryview, NDArray[np.int32]]]:
        """Yield each file with its targets."""
        # Slices of this share its memory: no file is copied.
        data = np.ascontiguousarray(self.data).data
        # n pieces by their n - 1 inner borders.
        by_segment = np.split(self.local_frames, self.local_offsets[1:-1])
        for i, local_frames in enumerate(by_segment):
            yield data[self.offsets[i] : self.offsets[i + 1]], local_frames


def _offsets_of(parts: Sequence[bytes] | Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
    return np.cumsum([0, *map(len, parts)], dtype=np.int64)


def _check_array(name: str, array: NDArray[np.generic], dtype: type[np.generic]) -> None:
    if array.ndim != 1 or array.dtype != dtype:
        raise InvalidRequestError(
            f"{name} must be {np.dtype(dtype).name} with 1 dimension, "
            f"got {array.dtype.name} with {array.ndim}"
        )


def _check_offsets(name: str, offsets: NDArray[np.int64], *, total: int) -> None:
    _check_array(name, offsets, np.int64)
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != total:
        raise InvalidRequestError(f"{name} must have >= 2 entries and run from 0 to {total}")
    # Compared, not subtracted: differences of int64 from a caller may overflow.
    if (offsets[1:] <= offsets[:-1]).any():
        raise InvalidRequestError(f"{name} must increase")
