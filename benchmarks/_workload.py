"""What a load is made of: requests about a video that was seen before, or about one that was not.

A video that nobody has seen is a known one with another hash: an MP4 with a `free` box at its end,
which readers skip, so that the work on it is the same.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve import ScoreOptions
from groundserve.client._connection import text_tensor
from groundserve.errors import InvalidRequestError

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Requests, each known by its number. No question comes twice."""

    videos: tuple[bytes | str, ...]
    """Files' bytes, or `file:` URIs that the server may read; taken in turn."""
    options: ScoreOptions
    """Of every request."""

    def check(self, cached_share: float) -> None:
        """Refuse a mix that cannot be made.

        Raises:
            InvalidRequestError: The share is not in [0, 1], or a video cannot be made a new one.
        """
        if not 0 <= cached_share <= 1:
            raise InvalidRequestError(f"a cached share must be in [0, 1], got {cached_share}")
        if cached_share < 1:
            for video in self.videos:
                unseen(video)

    def video(self, number: int, *, is_cached: bool) -> bytes | str:
        """Return the video of a request."""
        known = self.videos[number % len(self.videos)]
        return known if is_cached else unseen(known)

    def question(self, number: int) -> str:
        """Return what a request asks."""
        return f"When is number {number} shown?"

    def tensors(self, number: int, *, is_cached: bool) -> Tensors:
        """Return the inputs of the public model."""
        video = self.video(number, is_cached=is_cached)
        source: Tensors
        if isinstance(video, str):
            source = {"VIDEO_URI": text_tensor(video)}
        else:
            source = {"VIDEO": np.frombuffer(video, np.uint8)}
        return source | {
            "QUERY": text_tensor(self.question(number)),
            "OPTIONS": text_tensor(self.options.to_json()),
        }


def unseen(video: bytes | str) -> bytes:
    """Return the video under a hash that it never had.

    Raises:
        InvalidRequestError: It is a URI, whose file is as it is, or no MP4.
    """
    if isinstance(video, str):
        raise InvalidRequestError(
            "a video that the server reads itself stays the same; upload it, or have all cached"
        )
    if video[4:8] != b"ftyp":
        raise InvalidRequestError(
            "only an MP4 can be made a new one (by a `free` box at its end), got a file that begins"
            f" with {video[:8]!r}; give an MP4, or have all cached"
        )
    mark = uuid.uuid4().bytes
    return video + struct.pack(">I4s", 8 + len(mark), b"free") + mark
