"""Open a file with FFmpeg, allowing what we serve instead of what FFmpeg can do."""

from __future__ import annotations

from typing import BinaryIO

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from groundserve.errors import MediaError
from groundserve.limits import Limits

DEMUXERS = ("mov", "mp4", "matroska", "webm", "avi", "mpegts")
DECODERS = (
    "av1",
    "h264",
    "hevc",
    "libdav1d",
    "mjpeg",
    "mpeg1video",
    "mpeg2video",
    "mpeg4",
    "vp8",
    "vp9",
)
_OPTIONS = {
    "format_whitelist": ",".join(DEMUXERS),
    "protocol_whitelist": "file",
    "codec_whitelist": ",".join(DECODERS),
    # Timestamps of frames that the container gives decoding times only (AVI).
    "fflags": "+genpts",
}


def open_container(file: str | BinaryIO, *, decodes: bool = True) -> InputContainer:
    """Open a path or a buffer that we own; playlists and scripts naming other files are refused.

    FFmpeg decodes a few frames to complete its description; without `decodes` it does not, which
    is 35 times faster and enough to count packets of a file we wrote.
    """
    options = _OPTIONS if decodes else _OPTIONS | {"codec_whitelist": "none"}
    return av.open(file, "r", container_options=options, metadata_errors="replace")


def select_video_stream(container: InputContainer, limits: Limits) -> VideoStream:
    """Return the first video stream that is not a cover picture; other streams are not read.

    Raises:
        MediaError: There is none, its codec is not decoded here, or it is too large.
    """
    streams = [s for s in container.streams.video if not is_cover_picture(s)]
    if not streams:
        raise MediaError("the file has no video stream")
    selected = streams[0]
    check_codec(selected)
    check_sides(selected.codec_context.width, selected.codec_context.height, limits)
    for stream in container.streams:
        if stream is not selected:
            stream.discard = Discard.all
    return selected


def is_cover_picture(stream: VideoStream) -> bool:
    """Whether a stream is a picture attached to the file, as in music with an album cover."""
    return bool(stream.disposition & Disposition.attached_pic)


def check_codec(stream: VideoStream) -> None:
    """Raise MediaError when the stream's decoder is not white-listed; PyAV asks nobody."""
    decoder = stream.codec_context.name if stream.codec_context else "unknown"
    if decoder not in DECODERS:
        raise MediaError(
            f"the video's codec must be one of {', '.join(DECODERS)}, got {decoder}; "
            "re-encode it, for instance to H.264"
        )


def check_sides(width: int, height: int, limits: Limits) -> None:
    """Raise MediaError unless 1 <= width, height <= `limits.max_side_pixels`."""
    if not 0 < min(width, height) <= max(width, height) <= limits.max_side_pixels:
        raise MediaError(
            f"the video's width and height must be 1 to {limits.max_side_pixels} pixels "
            f"(max_side_pixels), got {width} x {height}"
        )
