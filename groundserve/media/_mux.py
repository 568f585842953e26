"""Write packets of a video as a file of its own, without decoding them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from groundserve.errors import MediaError
from groundserve.media._container import open_segment
from groundserve.media._packets import read_packets

# FFmpeg's canonical codec names, which are the same for every decoder of a codec.
_MP4_CODECS = {"av1", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "vp9"}
_FRAME_SECONDS = Fraction(1, 25)
"""Every frame of a segment lasts this long: only the order of the frames is meant."""


def write_segment(
    packets: Sequence[Packet[VideoStream]], ranks: NDArray[np.int64], template: VideoStream
) -> bytes:
    """Make a file that presents packet i, given in decode order, as its frame `ranks[i]`.

    MP4, or Matroska for codecs that MP4 cannot hold (VP8). Rotation goes along with the parameters
    of `template`, the stream that they were read from. There is no edit list, so no frame is
    hidden. The packets are changed.
    """
    codec_name = template.codec_context.codec.canonical_name
    format_name = "mp4" if codec_name in _MP4_CODECS else "matroska"
    # FFmpeg would write one where the first frame is not at time 0, as `delay` makes it.
    options = {"use_editlist": "0"} if format_name == "mp4" else {}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format_name, container_options=options) as container:
        # The decoder as the template: encoders by that name need not exist.
        stream = container.add_stream_from_template(template, opaque=True)
        stream.time_base = _FRAME_SECONDS
        # Shown late enough that no frame is shown before it is decoded.
        delay = int(np.max(np.arange(len(ranks)) - ranks))
        for position, (packet, rank) in enumerate(zip(packets, ranks, strict=True)):
            packet.stream = stream
            # The muxer may choose another unit for the file; PyAV converts from this one.
            packet.time_base = _FRAME_SECONDS
            packet.dts, packet.pts, packet.duration = position, int(rank) + delay, 1
            container.mux_one(packet)
    data = buffer.getvalue()
    # What counts is what is read back: an edit list, for instance, would hide frames, and the ranks
    # of the others would be wrong.
    _check_written(data, len(packets))
    return data


def _check_written(data: bytes, num_packets: int) -> None:
    with open_segment(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        # Matroska's header has no count.
        announced = stream.frames or num_packets
        stored = [packet.is_discard for packet in read_packets(container, stream)]
    if announced != num_packets or stored != [False] * num_packets:
        raise MediaError(
            f"a segment of {num_packets} packets was stored as {len(stored)} "
            f"({sum(stored)} hidden, {announced} announced); re-encode the video"
        )
