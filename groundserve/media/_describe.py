"""Find out what decoding a segment gives, by decoding its first frame."""

from __future__ import annotations

import io
from dataclasses import dataclass

from av.video.stream import VideoStream

from groundserve.limits import Limits
from groundserve.media._container import open_segment, select_video_stream
from groundserve.media._decode import decode_all
from groundserve.media._packets import read_packets
from groundserve.media._resize import quarter_turns
from groundserve.media.stream import StreamInfo


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """What one frame tells of a whole video; the fields are `StreamInfo`'s."""

    codec_name: str
    pixel_format: str
    width: int
    height: int
    rotation: int

    def to_stream(self, frame_counts: tuple[int, ...]) -> StreamInfo:
        """Add the segments' counts."""
        return StreamInfo(**vars(self), frame_counts=frame_counts)


def describe_segment(file: bytes, video: VideoStream, limits: Limits) -> Appearance:
    """Decode a segment as far as its first frame, which alone tells how it is to be rotated.

    Where nothing decodes, what probing the video found is returned: asking for a frame will fail.

    Args:
        file: The segment, as `write_segment` made it.
        video: The stream it was cut out of, as probing found it.
        limits: Ceilings on a frame's size.

    Raises:
        MediaError: The frame's size is past a limit.
    """
    with open_segment(io.BytesIO(file)) as container:
        stream = select_video_stream(container)
        # One thread gives a frame as soon as it can; several would first fill their queue.
        stream.codec_context.thread_type = "NONE"
        # All packets go in, the decoder takes as many as it needs for one frame.
        frame = next(decode_all(stream, list(read_packets(container, stream)), limits), None)
        # From the whole file, which FFmpeg has probed; a segment is opened without probing.
        codec = video.codec_context
        codec_name = codec.codec.canonical_name
        if frame is None:
            return Appearance(
                codec_name=codec_name,
                pixel_format=codec.pix_fmt or "unknown",
                width=codec.width,
                height=codec.height,
                rotation=0,
            )
        return Appearance(
            codec_name=codec_name,
            pixel_format=frame.format.name,
            width=frame.width,
            height=frame.height,
            rotation=quarter_turns(frame) * 90,
        )
