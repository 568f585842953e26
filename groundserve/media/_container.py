"""Open a file with FFmpeg, allowing what we serve instead of what FFmpeg can do."""

from __future__ import annotations

from typing import BinaryIO

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media._file import CountedFile, FileInMemory
from groundserve.media._memory import max_coded_pixels

# FFmpeg's names. One demuxer goes by several, "mov,mp4,m4a,3gp,3g2,mj2", and is let in by any of
# them. Not here are those that read other files than their own: playlists, concat scripts, image
# sequences.
DEMUXERS = ("mov", "mp4", "matroska", "webm", "avi", "mpegts")
# "av1" is FFmpeg's own decoder, which works with hardware only; on a CPU libdav1d does it.
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
    # What a demuxer may open by itself: nothing on the network. The video comes through `file`.
    "protocol_whitelist": "file",
    "codec_whitelist": ",".join(DECODERS),
    # Timestamps of frames that the container gives decoding times only (AVI).
    "fflags": "+genpts",
}
_BUFFER_BYTES = 64 * 1024
"""Read at a time; measured: with 32 KiB calls take longer than reading, 256 KiB gain nothing."""
# No decoder to probe with, and no packets read to probe: 2048 bytes are the least FFmpeg takes.
_SEGMENT_OPTIONS = _OPTIONS | {"codec_whitelist": "none", "probesize": "2048"}


def open_container(file: CountedFile | BinaryIO, limits: Limits) -> InputContainer:
    """Open a file that we own; playlists and scripts naming other files are refused.

    FFmpeg decodes the first frames to complete what the container says of its streams.
    """
    return av.open(
        file,
        "r",
        options=decoder_options(limits),
        container_options=_OPTIONS,
        # A title that is not UTF-8 is no reason to refuse a video: nobody here reads it.
        metadata_errors="replace",
        buffer_size=_BUFFER_BYTES,
    )


def open_segment(file: FileInMemory | BinaryIO) -> InputContainer:
    """Open what `write_segment` wrote, without decoding anything yet: 0.1 ms where that takes 7.

    The header is ours and holds the parameters of the decoder; what else probing finds out (layout
    of the samples, for MPEG-4 the sides) is known when a frame comes out. H.264 that does not say
    how far its frames are reordered needs that before: FFmpeg's MP4 reader takes it from the times.

    Source: FFmpeg 0042cf8, libavformat/mov.c, `mov_read_trak` and `mov_estimate_video_delay`.
    """
    return av.open(file, "r", container_options=_SEGMENT_OPTIONS, metadata_errors="replace")


def select_video_stream(container: InputContainer) -> VideoStream:
    """Return the first video stream that is not a cover picture; other streams are not read."""
    streams = container.streams.video
    videos = (one for one in streams if not one.disposition & Disposition.attached_pic)
    selected = next(videos, None)
    if selected is None:
        raise MediaError("the file has no video stream")
    # `codec_whitelist` is for the decoders that FFmpeg opens when it probes. The one that decodes
    # is opened by PyAV, which asks nobody.
    decoder = selected.codec_context.name if selected.codec_context else "unknown"
    if decoder not in DECODERS:
        raise MediaError(
            f"the video's codec must be one of {', '.join(DECODERS)}, got {decoder}; "
            "re-encode it, for instance to H.264"
        )
    for stream in container.streams:
        if stream is not selected:
            # Their packets then end in the demuxer, before anything is made of them.
            stream.discard = Discard.all
    return selected


def decoder_options(limits: Limits) -> dict[str, str]:
    """Have a decoder refuse a larger picture before it takes memory for it.

    FFmpeg looks at the size after cropping; `check_codec_size` finds the rest.
    """
    return {"max_pixels": str(max_coded_pixels(limits))}


def check_codec_size(codec: VideoCodecContext, limits: Limits) -> None:
    """Raise MediaError when what a decoder has read last is too large, as shown or as coded."""
    if codec.width:  # else it has read no size
        check_size(codec.width, codec.height, limits)
    # Codecs work on whole blocks and crop: what memory is taken for is larger than what is shown.
    if codec.coded_width * codec.coded_height > max_coded_pixels(limits):
        check_size(codec.coded_width, codec.coded_height, limits)


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise MediaError unless a picture keeps to `max_side_pixels` and `max_frame_pixels`."""
    if not 0 < min(width, height) <= max(width, height) <= limits.max_side_pixels:
        raise MediaError(
            f"the video's width and height must be 1 to {limits.max_side_pixels} pixels "
            f"(max_side_pixels), got {width} x {height}"
        )
    if width * height > limits.max_frame_pixels:
        raise MediaError(
            f"the video's frames must have at most {limits.max_frame_pixels} pixels "
            f"(max_frame_pixels), got {width} x {height}"
        )
