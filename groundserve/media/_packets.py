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
from groundserve.limits import MIB, Limits
from groundserve.media._container import open_segment
from groundserve.media._file import FileInMemory
from groundserve.media._sandbox import allow_more_memory
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
    """Demux the whole stream; nothing is decoded."""
    # 3 x 8 and 3 x 1 bytes a packet; a list's integers would take 28 bytes and more, each.
    pts, dts, sizes = array("q"), array("q"), array("q")
    is_key, is_discard, is_hidden = array("b"), array("b"), array("b")
    unit = time_base(stream)
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
        check_duration(float((packet.pts - start) * unit), limits)
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

    Without an announced frame rate also a file of one frame is refused: sampling starts from it.
    """
    positions = table.frame_positions
    if not len(positions):
        raise MediaError("the video has no frames")
    if not stream.average_rate:
        raise MediaError("the file announces no frame rate; remux it, for instance to MP4")
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
        average_fps=float(stream.average_rate),
        # Subtracted as integers: exact, however late on the clock the stream begins.
        pts_seconds=(pts - start) * float(time_base(stream)),
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


def max_packets(limits: Limits) -> int:
    """Return the most packets that a video may have."""
    return int(limits.max_duration_seconds * MAX_FRAMES_PER_SECOND) + 1


def time_base(stream: VideoStream) -> Fraction:
    """Return the unit of the stream's times, in seconds."""
    if not stream.time_base:
        raise MediaError("the video stream has no time base")
    return stream.time_base


_OPEN_BYTES = 64 * MIB
"""Memory to open any segment, besides what its frames take."""
_OPEN_BYTES_A_FRAME = 128
"""Memory for one frame of the index; measured: 36, and up to twice that while it grows."""


def open_announced(file: memoryview, num_frames: int) -> InputContainer:
    """Open a segment, uint8 (B,), which may come from the wire, with the frames it announces.

    A header of some kilobytes can announce 90 million packets, and FFmpeg takes 36 bytes for each
    when it opens the file (measured: 3.2 GB): MemoryError where its index takes more than so many
    frames need.
    """
    # A packet with data takes a byte at least, so this is known before FFmpeg sees the header.
    if num_frames > len(file):
        raise _other_frames(num_frames)
    with allow_more_memory(_OPEN_BYTES + _OPEN_BYTES_A_FRAME * num_frames):
        return open_segment(FileInMemory(file))


def read_announced(
    container: InputContainer, stream: VideoStream, *, num_frames: int, num_bytes: int
) -> list[Packet[VideoStream]]:
    """Return the packets of a segment of `num_bytes`, if they are as announced and overlap not."""
    packets: list[Packet[VideoStream]] = []
    num_found = 0
    for packet in read_packets(container, stream):
        # A hidden packet gives no frame, so the description does not count it.
        num_found += not is_hidden_packet(packet)
        # The index may name the same bytes for many packets, and each packet is a copy of its own.
        num_bytes -= packet.size
        # Not only at the end: the list of packets is itself what must not grow without bound.
        if num_found > num_frames or num_bytes < 0:
            break
        packets.append(packet)
    if num_found != num_frames or num_bytes < 0:
        raise _other_frames(num_frames)
    return packets


def _other_frames(num_frames: int) -> MediaError:
    return MediaError(f"a segment does not hold the {num_frames} frames announced in STREAM")
