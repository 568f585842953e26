"""Decode the target frames of segments, exactly as decoding the whole file would."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media._announced import open_announced, read_announced
from groundserve.media._container import (
    check_codec_size,
    check_size,
    decoder_options,
    select_video_stream,
)
from groundserve.media._packets import is_hidden_packet
from groundserve.media._resize import make_converter
from groundserve.media.resize import ResizeRule
from groundserve.media.segments import Segments

_SIZE_REFUSALS = (errno.EINVAL, errno.ERANGE)
"""What a decoder says of a picture past `decoder_options`, ERANGE dav1d; damage is rarely that."""


def decode_segments(
    segments: Segments,
    *,
    image_size: int | None,
    resize: ResizeRule = "square",
    num_threads: int,
    limits: Limits,
) -> NDArray[np.uint8]:
    """Decode, rotate as the file asks, and resize.

    Args:
        segments: n files with m targets, all of one video.
        image_size: Side S to resize to; None leaves frames as they are, which must then have one
            size.
        resize: How.
        num_threads: Threads of a decoder.
        limits: Ceilings on a frame's size.

    Returns:
        uint8 (m, S, S, 3) RGB in the order of the targets, S = `image_size`; (m, H, W, 3) as
        decoded when it is None.

    Raises:
        MediaError: No frame comes out for a target. The reference's decoder (decord) gives another
            frame's pixels then. Damage that the codec conceals within a frame is not an error. Or
            a frame is past the limits, or frames differ in size and are not resized.
    """
    to_pixels = make_converter(resize, image_size=image_size, limits=limits)
    frames: NDArray[np.uint8] | None = None
    missing = set(range(segments.num_frames))
    for target, frame in _decode_targets(segments, num_threads, limits):
        pixels = to_pixels(frame)
        # Only a decoded frame tells H and W for certain, rotation included.
        if frames is None:
            frames = np.empty((segments.num_frames, *pixels.shape), np.uint8)
        if pixels.shape != frames.shape[1:]:
            raise MediaError("the video's frames differ in size; ask for an image_size")
        frames[target] = pixels
        missing.remove(target)
    if frames is None or missing:
        raise MediaError(
            f"frame {min(missing)} of the {segments.num_frames} asked for does not decode: "
            "the video is damaged there"
        )
    return frames


def decode_all(
    stream: VideoStream, packets: list[Packet[VideoStream]], limits: Limits
) -> Iterator[VideoFrame]:
    """Yield frames in presentation order, as far as the decoder gets.

    Args:
        stream: An open segment's video; its decoder is used up.
        packets: All that hold data, in decode order.
        limits: Ceilings on a frame's size.

    Raises:
        MediaError: A frame is past the limits on its size, also one that does not come out.
    """
    codec = stream.codec_context
    codec.options = decoder_options(limits)
    try:
        # None drains the decoder: frames that it holds back for reordering, or in its threads.
        for packet in (*packets, None):
            for frame in stream.decode(packet):
                check_codec_size(codec, limits)
                # Each frame, not the first alone: a stream may change its size at any key frame.
                check_size(frame.width, frame.height, limits)
                yield frame
    # PyAV's MemoryError is an FFmpegError too, and no sign of damage: the worker words it.
    except MemoryError:
        raise
    except av.FFmpegError as error:
        check_codec_size(codec, limits)
        # Any other damage ends the frames here: `decode_segments` finds the target that is missing.
        if error.errno in _SIZE_REFUSALS:
            raise MediaError(
                "a frame of the video is damaged, or too large: at most "
                f"{limits.max_side_pixels} pixels a side (max_side_pixels) and "
                f"{limits.max_frame_pixels} in all (max_frame_pixels)"
            ) from None


def _decode_targets(
    segments: Segments, num_threads: int, limits: Limits
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield each target that decodes, as its number 0..m-1 with its frame."""
    first_target = 0
    for (file, local_frames), num_frames in zip(
        segments, segments.stream.frame_counts, strict=True
    ):
        with open_announced(file, num_frames) as container:
            stream = select_video_stream(container)
            # Whole frames and slices side by side; PyAV's own default is slices only.
            stream.codec_context.thread_type = "AUTO"
            stream.codec_context.thread_count = num_threads
            packets = read_announced(container, stream, num_frames=num_frames, num_bytes=len(file))
            for number, frame in _decode_ranks(stream, packets, local_frames, limits):
                yield first_target + number, frame
        first_target += len(local_frames)


def _decode_ranks(
    stream: VideoStream,
    packets: list[Packet[VideoStream]],
    local_frames: NDArray[np.int32],
    limits: Limits,
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield the frames at those ranks that come out, each with its place in `local_frames`."""
    # The muxer chose the unit of the times (Matroska's is 1 ms); their order is the rank.
    shown = sorted(packet.pts or 0 for packet in packets if not is_hidden_packet(packet))
    # Every rank is there: `Segments` and `read_announced` have compared both sides with the frames
    # announced.
    wanted = {shown[rank]: i for i, rank in enumerate(local_frames)}
    for frame in decode_all(stream, packets, limits):
        number = wanted.pop(frame.pts, None)
        if number is not None:
            yield number, frame
        if not wanted:
            return
