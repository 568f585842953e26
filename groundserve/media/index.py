"""What demuxing alone tells about a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, MediaError


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoIndex:
    """The frames of a video in presentation order; an ordinal is a place in these arrays.

    A frame is a packet of the video stream that has data and is not marked discard; the count is
    never the header's.
    """

    average_fps: float
    """The container's `avg_frame_rate`, > 0. Not count / duration: gaps do not lower it."""
    pts_seconds: NDArray[np.float64]
    """float64 (N,), increasing: when each frame is shown, seconds from the stream's start."""
    is_key: NDArray[np.bool_]
    """bool (N,): decoding can start here."""
    width: int
    height: int
    """Both in coded pixels, before rotation."""
    codec_name: str
    """FFmpeg's name of the codec, such as "h264"."""
    container_name: str
    """FFmpeg's name of the demuxer, such as "mov,mp4,m4a,3gp,3g2,mj2"."""

    def __post_init__(self) -> None:
        # What a worker or a cache answers is checked like any input.
        if self.pts_seconds.ndim != 1 or self.pts_seconds.shape != self.is_key.shape:
            raise MediaError(
                "pts_seconds and is_key must have one entry a frame, "
                f"got {self.pts_seconds.shape} and {self.is_key.shape}"
            )
        if self.num_source_frames == 0:
            raise MediaError("the video has no frames")
        if not np.all(np.diff(self.pts_seconds) > 0):
            raise MediaError("pts_seconds must increase")
        if not 0 < self.average_fps < float("inf"):
            raise MediaError(f"average_fps must be > 0, got {self.average_fps}")

    @property
    def num_source_frames(self) -> int:
        """N, the frames that the file presents."""
        return len(self.pts_seconds)

    @property
    def duration_seconds(self) -> float:
        """From the first frame's time to the last one's, which is shown for 1 / `average_fps`."""
        return float(self.pts_seconds[-1] - self.pts_seconds[0]) + 1 / self.average_fps


def check_frame_indices(frame_indices: NDArray[Any], num_source_frames: int | None = None) -> None:
    """Check ordinals, against the frames of the video where their number is known."""
    if frame_indices.ndim != 1 or frame_indices.dtype != np.int64 or not len(frame_indices):
        raise InvalidRequestError(
            "frame_indices must be int64 with shape (m,), m >= 1, "
            f"got {frame_indices.dtype.name} with shape {frame_indices.shape}"
        )
    if np.any(frame_indices[1:] <= frame_indices[:-1]):
        raise InvalidRequestError(
            "frame_indices must be strictly increasing; numpy.unique makes them so"
        )
    first, last = int(frame_indices[0]), int(frame_indices[-1])
    if num_source_frames is not None and (first < 0 or last >= num_source_frames):
        raise InvalidRequestError(
            f"frame_indices must be 0 to {num_source_frames - 1}, got {first} to {last}"
        )
