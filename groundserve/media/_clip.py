"""Encode a stretch of a video as a file of its own, one frame after another."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, MediaError
from groundserve.limits import MIB, Limits
from groundserve.media._cut import cut_segments
from groundserve.media._decode import iterate_targets
from groundserve.media._reader import PacketReader
from groundserve.media._resize import RgbConverter

_OPTIONS = {"preset": "veryfast", "crf": "18", "tune": "zerolatency"}
"""Without B-frames, whose reordering would move the start; and without frames held in memory."""
_MAX_SIDE_PIXELS = 1920
"""Larger frames are shrunk: players and the encoder's memory are made for this."""
_TIME_BASE = Fraction(1, 90_000)
_TOGETHER_BYTES = 64 * MIB
"""Of the file, copied at one time."""
_SMPTE170M, _LIMITED_RANGE = 6, 1
"""How FFmpeg makes YUV of RGB; players would guess by the size."""


def encode_clip(
    reader: PacketReader, first: int, last: int, *, num_threads: int, limits: Limits, max_bytes: int
) -> bytes:
    """Return an MP4 of H.264 with the frames first..last, upright, the first one at time 0.

    They last as long as in the source. Sides of an odd number of pixels are one longer.

    Raises:
        MediaError: A frame does not decode, or they differ in size.
        InvalidRequestError: The clip has more than `max_bytes`.
    """
    ticks = _ticks(reader.index.pts_seconds[first : last + 1], reader.index.average_fps)
    buffer = io.BytesIO()
    scale = VideoReformatter()
    with av.open(buffer, "w", format="mp4") as container:
        rate = max(1, round(reader.index.average_fps))
        stream = container.add_stream("libx264", rate, _OPTIONS)
        codec = stream.codec_context
        codec.thread_count = num_threads
        codec.time_base, codec.pix_fmt = _TIME_BASE, "yuv420p"
        codec.colorspace, codec.color_range = _SMPTE170M, _LIMITED_RANGE
        source_size: tuple[int, ...] | None = None
        for number, pixels in _upright_frames(reader, first, last, num_threads, limits):
            if source_size is None:
                source_size = pixels.shape
                codec.height, codec.width = _even_sides(*pixels.shape[:2])
            if pixels.shape != source_size:
                raise MediaError("the video's frames differ in size within the clip")
            frame = scale.reformat(
                _padded(pixels), width=codec.width, height=codec.height, format="yuv420p", threads=1
            )
            frame.pts, frame.time_base = int(ticks[number]), _TIME_BASE
            frame.duration = int(ticks[number + 1] - ticks[number])
            container.mux(stream.encode(frame))
            if buffer.tell() > max_bytes:
                raise InvalidRequestError(
                    f"the clip takes more than {max_bytes} bytes; ask for a shorter one"
                )
        container.mux(stream.encode())
    return buffer.getvalue()


def _ticks(pts_seconds: NDArray[np.float64], fps: float) -> NDArray[np.int64]:
    """Return when each of n frames is shown and the last one ends, int64 (n+1,), increasing."""
    ends = np.append(pts_seconds, pts_seconds[-1] + 1 / fps)
    ticks = np.rint((ends - ends[0]) * _TIME_BASE.denominator).astype(np.int64)
    order = np.arange(len(ticks))
    increasing: NDArray[np.int64] = np.maximum.accumulate(ticks - order) + order
    return increasing


def _upright_frames(
    reader: PacketReader, first: int, last: int, num_threads: int, limits: Limits
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the number of each frame, from 0, with its pixels (H, W, 3), RGB."""
    to_rgb = RgbConverter()
    num_frames, number = last - first + 1, 0
    while number < num_frames:
        rest = np.arange(first + number, last + 1)
        segments = cut_segments(reader, rest, max_bytes=_TOGETHER_BYTES)
        end = number + segments.num_frames
        for target, frame in iterate_targets(segments, num_threads=num_threads, limits=limits):
            if target != segments.num_frames - (end - number):
                break
            yield number, to_rgb(frame)
            number += 1
        if number != end:
            raise MediaError(f"frame {first + number} of the video does not decode: it is damaged")


def _even_sides(height: int, width: int) -> tuple[int, int]:
    shrink = min(1.0, _MAX_SIDE_PIXELS / max(height, width))
    return tuple(2 * max(1, -(-round(side * shrink) // 2)) for side in (height, width))  # type: ignore[return-value]


def _padded(pixels: NDArray[np.uint8]) -> VideoFrame:
    """Return a frame whose sides are even, the last row or column twice where they were not."""
    height, width, _ = pixels.shape
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
