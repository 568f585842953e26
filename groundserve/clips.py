"""Parts of a video as files: a frame as JPEG, a stretch as MP4; made by media workers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from groundserve.arguments import Video
from groundserve.errors import InvalidRequestError
from groundserve.frames import as_jpeg, open_video, shrink
from groundserve.limits import MIB, Limits
from groundserve.media import MediaWorkers, VideoIndex, VideoSource
from groundserve.media.index import check_frame_indices
from groundserve.runtime.deadline import Deadline

MAX_CLIP_BYTES = 256 * MIB
MAX_CLIP_SECONDS = 600.0
_TOGETHER_BYTES = 64 * MIB
"""Of pixels, and of the file, that are taken at one time."""


def frame_jpegs(
    workers: MediaWorkers,
    source: VideoSource,
    frame_indices: Sequence[int],
    *,
    longest_side: int | None = None,
    deadline: Deadline,
) -> list[bytes]:
    """Return frames, by their increasing ordinals in the file, upright as JPEG."""
    rest, pictures = np.array(frame_indices, np.int64), []
    with workers.open(source, deadline=deadline) as video:
        check_frame_indices(rest, video.index.num_source_frames)
        frame_bytes = 3 * video.index.width * video.index.height
        num_together = max(1, _TOGETHER_BYTES // frame_bytes)
        while len(rest):
            segments = video.cut(rest[:num_together], max_bytes=_TOGETHER_BYTES)
            for frame in video.decode(segments):
                pictures.append(as_jpeg(shrink(frame, longest_side)))
            rest = rest[segments.num_frames :]
    return pictures


def clip_mp4(
    workers: MediaWorkers,
    source: VideoSource,
    start_seconds: float,
    end_seconds: float,
    *,
    deadline: Deadline,
) -> bytes:
    """Return a stretch of a video, re-encoded, from the frame shown at one time to that at another.

    The first frame is at time 0. An end past the video's means its end. InvalidRequestError: the
    times are no stretch of the video, or one that is too long.
    """
    if not 0 <= start_seconds <= end_seconds < math.inf:
        raise InvalidRequestError("start and end must be finite with 0 <= start <= end")
    with workers.open(source, deadline=deadline) as video:
        first, last = frames_shown(video.index, start_seconds, end_seconds)
        return video.clip(first, last, max_bytes=MAX_CLIP_BYTES)


def read_clip(video: Video, start_seconds: float, end_seconds: float) -> bytes:
    """Return a stretch of a local video as `clip_mp4` does, by a worker of its own."""
    limits = Limits()
    deadline = Deadline.after(limits.max_request_seconds)
    with open_video(video, limits) as source, MediaWorkers(limits=limits) as workers:
        return clip_mp4(workers, source, start_seconds, end_seconds, deadline=deadline)


def frames_shown(index: VideoIndex, start_seconds: float, end_seconds: float) -> tuple[int, int]:
    """Return the ordinals of the frames that are shown at two times, 0 <= start <= end."""
    times = index.pts_seconds
    if start_seconds >= times[0] + index.duration_seconds:
        raise InvalidRequestError(
            f"start must lie in the video, which has {index.duration_seconds:g} s"
        )
    # Before the first frame is shown, there is none but it.
    first, last = np.searchsorted(times, [start_seconds, end_seconds], side="right").clip(1) - 1
    if times[last] - times[first] > MAX_CLIP_SECONDS:
        raise InvalidRequestError(f"a clip must have at most {MAX_CLIP_SECONDS:g} s")
    return int(first), int(last)
