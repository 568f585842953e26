"""Read a segment that may come from the wire: no more of it than its description announces.

A header of some kilobytes can announce 90 million packets, and FFmpeg takes 36 bytes for each when
it opens the file (measured: 3.2 GB).
"""

from __future__ import annotations

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from groundserve.errors import MediaError
from groundserve.limits import MIB
from groundserve.media._container import open_segment
from groundserve.media._file import FileInMemory
from groundserve.media._packets import is_hidden_packet, read_packets
from groundserve.media._sandbox import allow_more_memory

_OPEN_BYTES = 64 * MIB
"""Memory to open any segment, besides what its frames take."""
_OPEN_BYTES_A_FRAME = 128
"""Memory for one frame of the index; measured: 36, and up to twice that while it grows."""


def open_announced(file: memoryview, num_frames: int) -> InputContainer:
    """Open a segment that is to hold so many frames; see `open_segment`.

    Args:
        file: uint8 (B,): the whole file.
        num_frames: Frames that its description announces.

    Raises:
        MediaError: It has fewer bytes than frames.
        MemoryError: Its index takes more memory than so many frames need.
    """
    # A packet with data takes a byte at least, so this is known before FFmpeg sees the header.
    if num_frames > len(file):
        raise _other_frames(num_frames)
    with allow_more_memory(_OPEN_BYTES + _OPEN_BYTES_A_FRAME * num_frames):
        return open_segment(FileInMemory(file))


def read_announced(
    container: InputContainer, stream: VideoStream, *, num_frames: int, num_bytes: int
) -> list[Packet[VideoStream]]:
    """Return the packets of a segment.

    Args:
        container: The open segment.
        stream: Its video.
        num_frames: Frames that come out of its packets.
        num_bytes: Size of the file; packets that overlap take more than it has.

    Raises:
        MediaError: It holds other frames.
    """
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
