"""Frames of a local video as RGB arrays: the ordinals that an answer names, at their own size.

Shape letters: K frames of H x W pixels, upright.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve import extras
from groundserve.arguments import Video, check_video
from groundserve.errors import InvalidRequestError, MediaError
from groundserve.limits import GIB, MIB, Limits
from groundserve.media import MediaWorkers, VideoIndex, VideoSource
from groundserve.media.index import check_frame_indices
from groundserve.runtime.deadline import Deadline

FrameIndices = Sequence[int] | NDArray[np.integer[Any]]

MAX_ARRAY_BYTES = 2 * GIB
"""What the array of one call may take: 345 frames of 1080p, 21 of 8K."""
_BATCH_BYTES = 64 * MIB
"""RGB of the frames that are decoded together, and so from one key frame on where they share it;
a frame that is larger comes alone."""


def read_frames(
    video: Video,
    frame_indices: FrameIndices,
    *,
    longest_side: int | None = None,
    limits: Limits | None = None,
) -> NDArray[np.uint8]:
    """Decode frames of a local video, in a process that can do nothing else.

    They are the frames that were scored, turned upright as the file asks, before the resize to the
    model's square input. FFmpeg converts them to RGB, also where a GPU decoded them for scoring.

    Args:
        video: Path of a local file, or its bytes.
        frame_indices: Whole numbers (K,), K >= 1: 0-based ordinals in the file, strictly
            increasing, such as `QueryResult.selected_frames`.
        longest_side: Shrink frames whose longer side has more pixels than this to it, keeping
            the aspect (Pillow, bicubic with antialiasing); none is enlarged. None: as they are.
        limits: Ceilings on the video, on K (`max_num_frames`) and on the time; defaults where None.

    Returns:
        uint8 (K, H, W, 3), RGB, in time order.

    Raises:
        InvalidRequestError: The ordinals or `longest_side` break a rule, or the array would take
            more than `MAX_ARRAY_BYTES`; or `video` is a URI (nothing is fetched).
        MediaError: The file cannot be read, a frame does not decode, or their sizes differ.
        DeadlineExceededError: `limits.max_request_seconds` have passed.
        UnavailableError: The decoder process died.
        MissingExtraError: PyAV or Pillow is not installed.
    """
    limits = limits or Limits()
    indices = _parse_indices(frame_indices)
    if len(indices) > limits.max_num_frames:
        raise InvalidRequestError(
            f"frame_indices must be at most {limits.max_num_frames} (max_num_frames), "
            f"got {len(indices)}; ask for fewer at a time"
        )
    frames: NDArray[np.uint8] | None = None
    decoded = iterate_frames(
        video,
        indices,
        longest_side=longest_side,
        limits=limits,
        deadline=Deadline.after(limits.max_request_seconds),
    )
    with closing(decoded):
        for number, frame in enumerate(decoded):
            if frames is None:
                frames = _empty(len(indices), frame)
            if frame.shape != frames.shape[1:]:
                raise MediaError(
                    f"the video's frames differ in size: frame {indices[number]} is "
                    f"{_size(frame)}, frame {indices[0]} {_size(frames[0])}; ask for them in calls "
                    "of their own"
                )
            frames[number] = frame
    assert frames is not None, "there is a frame, or an error"
    return frames


def iterate_frames(
    video: Video,
    frame_indices: FrameIndices,
    *,
    longest_side: int | None = None,
    limits: Limits | None = None,
    deadline: Deadline | None = None,
) -> Generator[NDArray[np.uint8], None, None]:
    """Yield one frame after another, so that no more than a few are in memory.

    Arguments and errors are those of `read_frames`, but that any number of frames may be asked for,
    and a `deadline` given: for all frames, and for what the caller does between them.

    Yields:
        uint8 (H, W, 3), RGB; the size may change where the video's does.
    """
    limits = limits or Limits()
    deadline = deadline or Deadline.after(limits.max_request_seconds)
    rest = _parse_indices(frame_indices)
    if longest_side is not None:
        is_whole = isinstance(longest_side, int | np.integer) and not isinstance(longest_side, bool)
        if not is_whole or longest_side < 1:
            raise InvalidRequestError(
                f"longest_side must be a whole number >= 1, or None, got {longest_side!r}"
            )
    with (
        open_video(video, limits) as source,
        MediaWorkers(limits=limits) as workers,
        workers.open(source, deadline=deadline) as opened,
    ):
        check_frame_indices(rest, opened.index.num_source_frames)
        num_together = _num_together(opened.index, limits)
        while len(rest):
            try:
                segments = opened.cut(rest[:num_together], max_bytes=limits.max_upload_bytes)
                frames = opened.decode(segments)
            except MediaError as error:
                if num_together == 1:
                    raise MediaError(f"frame {rest[0]} of the video: {error}") from error
                # What does not come out together may alone: of several sizes, or too much memory.
                num_together = 1
                continue
            for frame in frames:
                yield shrink(frame, longest_side)
            rest = rest[len(frames) :]


def as_jpeg(frame: NDArray[np.uint8], *, quality: int = 90) -> bytes:
    """Return the file of a frame, uint8 (H, W, 3), RGB; the quality is Pillow's."""
    buffer = io.BytesIO()
    extras.PIL.Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def data_url(content: bytes, media_type: str = "image/jpeg") -> str:
    """Return a picture itself as a URL."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _parse_indices(frame_indices: FrameIndices) -> NDArray[np.int64]:
    try:
        indices = np.asarray(frame_indices)
    except (ValueError, TypeError):  # NumPy's, of lists of several lengths
        raise InvalidRequestError("frame_indices must be whole numbers with shape (K,)") from None
    if indices.dtype.kind in "iu" and np.can_cast(indices.dtype, np.int64):
        indices = indices.astype(np.int64)
    check_frame_indices(indices)
    return indices


def open_video(video: Video, limits: Limits) -> VideoSource:
    """Return a local video, by its path or its bytes."""
    video = check_video(video)
    if isinstance(video, bytes):
        return VideoSource.from_bytes(video, limits=limits)
    return VideoSource.from_path(video, limits=limits)


def _num_together(index: VideoIndex, limits: Limits) -> int:
    frame_bytes = 3 * index.width * index.height
    return max(1, min(_BATCH_BYTES // max(1, frame_bytes), limits.max_num_frames))


def shrink(frame: NDArray[np.uint8], longest_side: int | None) -> NDArray[np.uint8]:
    """Shrink a frame whose longer side has more pixels, keeping the aspect."""
    if longest_side is None or max(frame.shape[:2]) <= longest_side:
        return frame
    pillow = extras.PIL.Image
    image = pillow.fromarray(frame)
    # Without a reducing gap it is the exact filter, as for the model's input.
    image.thumbnail((longest_side, longest_side), pillow.Resampling.BICUBIC, reducing_gap=None)
    return np.asarray(image)


def _empty(num_frames: int, like: NDArray[np.uint8]) -> NDArray[np.uint8]:
    num_bytes = num_frames * like.nbytes
    if num_bytes > MAX_ARRAY_BYTES:
        raise InvalidRequestError(
            f"{num_frames} frames of {_size(like)} take {num_bytes} bytes, more than "
            f"{MAX_ARRAY_BYTES} in one array; give a longest_side, or ask for at most "
            f"{MAX_ARRAY_BYTES // like.nbytes} at a time"
        )
    return np.empty((num_frames, *like.shape), np.uint8)


def _size(frame: NDArray[np.uint8]) -> str:
    return f"{frame.shape[1]} x {frame.shape[0]} pixels"
