"""List a video's packets: which are frames, when they are shown, where decoding can start."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex

MAX_FRAMES_PER_SECOND = 240
"""With `max_duration_seconds`, the ceiling on packets that are listed (27 bytes each, with an index
35)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketTable:
    """The packets that hold data, in decode order; a position is a place in these arrays (P,)."""

    pts: NDArray[np.int64]
    """Presentation time in the stream's time base."""
    dts: NDArray[np.int64]
    """Decoding time; the presentation time where the container gives none."""
    sizes: NDArray[np.int64]
    """Bytes."""
    is_key: NDArray[np.bool_]
    """Decoding can start here."""
    is_discard: NDArray[np.bool_]
    """Decodes to a frame that is not presented: it lies before the start of an edit."""
    is_hidden: NDArray[np.bool_]
    """Does not come out of the decoder: see `is_hidden_packet`."""
    offsets: NDArray[np.int64] | None = None
    """First byte of each in the file, where the list was made of the file's index."""

    @property
    def frame_positions(self) -> NDArray[np.int64]:
        """int64 (N,): positions of the frames, in presentation order."""
        shown = np.flatnonzero(~(self.is_discard | self.is_hidden))
        return shown[np.argsort(self.pts[shown], kind="stable")]

    def find(self, packet: Packet[VideoStream]) -> int | None:
        """Return the position of a packet, known by its time and size, None if that is not one."""
        # With several such packets nobody knows which it is; the reader then starts over.
        matches = np.flatnonzero((self.pts == packet.pts) & (self.sizes == packet.size))
        return int(matches[0]) if len(matches) == 1 else None

    def matches(self, position: int, packet: Packet[VideoStream]) -> bool:
        """Whether a packet is the one listed there. Decoding times may differ after a seek."""
        # Not `dts`, which some demuxers make up as they go.
        return bool(self.pts[position] == packet.pts and self.sizes[position] == packet.size)

    def describes(self, position: int, packet: Packet[VideoStream]) -> bool:
        """Whether all that is listed there is what the packet, read in order, says."""
        dts = packet.pts if packet.dts is None else packet.dts
        return (
            self.matches(position, packet)
            and bool(self.dts[position] == dts)
            and bool(self.is_key[position]) == packet.is_keyframe
            and bool(self.is_discard[position]) == packet.is_discard
        )


def read_packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yield the stream's packets that hold data, from where the container stands."""
    return (packet for packet in container.demux(stream) if packet.size)


def is_hidden_packet(packet: Packet[VideoStream]) -> bool:
    """Whether a packet is only a reference for others: VP8 clears a bit of its first byte then."""
    # RFC 6386, section 9.1: bit 4 of the first byte is show_frame. VP9 and AV1 pack a frame that is
    # not shown together with one that is, so there a packet always gives a frame.
    is_vp8 = packet.stream.codec_context.name == "vp8"
    return is_vp8 and not memoryview(packet)[0] & 0x10


def list_packets(
    packets: Iterator[Packet[VideoStream]], stream: VideoStream, limits: Limits
) -> PacketTable:
    """Demux the whole stream, nothing is decoded.

    Args:
        packets: All that hold data, in decode order.
        stream: The stream that they are of.
        limits: Ceilings on the video.

    Raises:
        MediaError: A packet has no time, one lies past `max_duration_seconds`, or there are more
            than `MAX_FRAMES_PER_SECOND` over that time.
    """
    # 3 x 8 and 3 x 1 bytes a packet; a list's integers would take 28 bytes and more, each.
    pts, dts, sizes = array("q"), array("q"), array("q")
    is_key, is_discard, is_hidden = array("b"), array("b"), array("b")
    time_base = _time_base(stream)
    start = stream.start_time
    # One more than allowed, for `check_count` to see that there are too many.
    for packet in islice(packets, max_packets(limits) + 1):
        if packet.pts is None:
            raise MediaError(
                f"frame {len(pts)} of the file (in decode order) has no presentation time; "
                "remux or re-encode it, for instance to MP4"
            )
        # Streams without a start time begin with their first packet.
        start = packet.pts if start is None else start
        check_duration(float((packet.pts - start) * time_base), limits)
        pts.append(packet.pts)
        dts.append(packet.pts if packet.dts is None else packet.dts)
        sizes.append(packet.size)
        is_key.append(packet.is_keyframe)
        is_discard.append(packet.is_discard)
        is_hidden.append(is_hidden_packet(packet))
    check_count(len(pts), limits)
    return PacketTable(
        pts=np.array(pts, np.int64),
        dts=np.array(dts, np.int64),
        sizes=np.array(sizes, np.int64),
        is_key=np.array(is_key, np.bool_),
        is_discard=np.array(is_discard, np.bool_),
        is_hidden=np.array(is_hidden, np.bool_),
    )


def describe(container: InputContainer, stream: VideoStream, table: PacketTable) -> VideoIndex:
    """Say what the packet list means to a caller.

    Raises:
        MediaError: No frames, two frames at one time, or no announced frame rate (also for a file
            of one frame: sampling rules start from the rate).
    """
    positions = table.frame_positions
    if not len(positions):
        raise MediaError("the video has no frames")
    # (N,) in stream units, sorted, so equal times are neighbors.
    pts = table.pts[positions]
    if repeats := int(np.count_nonzero(np.diff(pts) == 0)):
        raise MediaError(
            f"{repeats} frames have the presentation time of another, so their order is not known; "
            "re-encode the video with a constant frame rate"
        )
    # Sorted by now: the earliest frame's, not the first packet's.
    start = int(pts[0]) if stream.start_time is None else stream.start_time
    return VideoIndex(
        average_fps=_average_fps(stream),
        # Subtracted as integers: exact, however late on the clock the stream begins.
        pts_seconds=(pts - start) * float(_time_base(stream)),
        is_key=table.is_key[positions],
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        codec_name=stream.codec_context.codec.canonical_name,
        container_name=container.format.name,
    )


def check_duration(seconds: float, limits: Limits) -> None:
    """Raise MediaError when a time is past `limits.max_duration_seconds`."""
    if seconds > limits.max_duration_seconds:
        raise MediaError(
            f"the video must last at most {limits.max_duration_seconds:g} s "
            f"(max_duration_seconds), got {seconds:g} s or more"
        )


def check_count(num_packets: int, limits: Limits) -> None:
    """Raise MediaError past `MAX_FRAMES_PER_SECOND` over `limits.max_duration_seconds`."""
    if num_packets > max_packets(limits):
        raise MediaError(
            f"the video must have at most {max_packets(limits)} frames "
            f"(max_duration_seconds at {MAX_FRAMES_PER_SECOND} a second)"
        )


def announced_seconds(stream: VideoStream) -> float:
    """Return the duration in the stream's header, 0 where there is none."""
    return float((stream.duration or 0) * _time_base(stream))


def max_packets(limits: Limits) -> int:
    """Return the most packets that a video may have."""
    return int(limits.max_duration_seconds * MAX_FRAMES_PER_SECOND) + 1


def _average_fps(stream: VideoStream) -> float:
    if not stream.average_rate:
        raise MediaError("the file announces no frame rate; remux it, for instance to MP4")
    return float(stream.average_rate)


def _time_base(stream: VideoStream) -> Fraction:
    if not stream.time_base:
        raise MediaError("the video stream has no time base")
    return stream.time_base
