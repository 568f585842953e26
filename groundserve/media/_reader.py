"""Random access to a video's packets, checked against its packet list."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media._container import (
    check_size,
    open_container,
    open_segment,
    select_video_stream,
)
from groundserve.media._decode import decode_all
from groundserve.media._file import CountedFile
from groundserve.media._mp4_index import list_indexed_packets
from groundserve.media._packets import (
    PacketTable,
    check_count,
    check_duration,
    describe,
    list_packets,
    read_packets,
    time_base,
)
from groundserve.media._resize import quarter_turns

_CONFIRMED_PACKETS = 4
"""Read at the start of an indexed file, to see that FFmpeg gives what the list says."""
_MAX_READ_ON = 16
"""Read in search of one packet behind where a seek led; H.264 reorders 16 frames at most."""


class PacketReader:
    """An open video whose packets have been listed."""

    table: PacketTable
    container: InputContainer
    stream: VideoStream

    def __init__(self, fd: int, limits: Limits) -> None:
        """Open a file, whose descriptor stays the caller's, and list all packets.

        They come from the index where that is clear, else by demuxing all.
        """
        self._fd = fd
        self._limits = limits
        self._appearance: dict[str, Any] | None = None
        self._open()
        try:
            # The header's word, to refuse early; what counts is found by listing the packets.
            check_duration(float((self.stream.duration or 0) * time_base(self.stream)), limits)
            check_count(self.stream.frames, limits)
            self.table = self._list()
            self.index = describe(self.container, self.stream, self.table)
        except BaseException:
            self.close()
            raise

    def read(self, first: int, stop: int) -> list[Packet[VideoStream]]:
        """Return the packets at positions first..stop-1, seeking where the container allows it."""
        # FFmpeg seeks to key packets; looking for one in an index without any is quadratic.
        if self.table.is_key[first]:
            # Some demuxers index by presentation time (Matroska), some by decoding time (MOV, AVI).
            for timestamp in (self.table.pts[first], self.table.dts[first]):
                packets = self._read_after_seek(int(timestamp), first, stop)
                if packets is not None:
                    return packets
        # Seeking led elsewhere: read from the start, the way the list itself was made.
        self.close()
        self._open()
        packets = self._take(self._packets(), 0, first, stop)
        if packets is None:
            raise MediaError("the file's packets differ from one reading to the next")
        return packets

    def appearance(self, first_segment: bytes) -> dict[str, Any]:
        """Return what frames look like, found out at the first cut and the same for the others."""
        if self._appearance is None:
            self._appearance = describe_segment(first_segment, self.stream, self._limits)
        return self._appearance

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def _open(self) -> None:
        self._file = CountedFile(self._fd)
        self.container = open_container(self._file, self._limits)
        try:
            self.stream = select_video_stream(self.container)
            codec = self.stream.codec_context
            check_size(codec.width, codec.height, self._limits)
        except BaseException:
            self.container.close()
            raise

    def _list(self) -> PacketTable:
        indexed = list_indexed_packets(self._fd, self.container, self.stream, self._limits)
        if indexed:
            table, doubtful = indexed
            if self._confirm(table, doubtful):
                return table
            # From the start again.
            self.close()
            self._open()
        return list_packets(self._packets(), self.stream, self._limits)

    def _confirm(self, table: PacketTable, doubtful: NDArray[np.int64]) -> bool:
        """Compare the first packets with the list, and fill in what it does not know of others."""
        first = list(islice(self._packets(), _CONFIRMED_PACKETS))
        if len(first) < min(len(table.pts), _CONFIRMED_PACKETS):
            return False
        packets = dict(enumerate(first))
        for position in doubtful.tolist():
            packet = packets.get(position) or self._ask(table, position)
            if packet is None:
                return False
            table.is_key[position] = packet.is_keyframe
        # FFmpeg may find no key packets where it cannot read the parameters of the video.
        return bool(table.is_key[0]) and all(
            table.describes(position, packet) for position, packet in packets.items()
        )

    def _ask(self, table: PacketTable, position: int) -> Packet[VideoStream] | None:
        """Read one packet of an indexed file; None where seeking does not lead there."""
        assert table.offsets is not None
        self.container.seek(int(table.dts[position]), stream=self.stream, any_frame=True)
        # Seeking counts B-frames' delay off the time, so it lands a little early.
        for packet in islice(self._packets(), _MAX_READ_ON):
            if packet.pos == table.offsets[position] and table.matches(position, packet):
                return packet
        return None

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the packets from where the container stands; a file without any is given up."""
        self._file.restart_count()
        for packet in read_packets(self.container, self.stream):
            self._file.restart_count()
            yield packet

    def _read_after_seek(
        self, timestamp: int, first: int, stop: int
    ) -> list[Packet[VideoStream]] | None:
        try:
            # Where this lands is the demuxer's choice, so the packet found there tells the
            # position.
            self.container.seek(timestamp, stream=self.stream)
        except av.FFmpegError:
            return None
        packets = self._packets()
        landed = next(packets, None)
        position = self.table.find(landed) if landed else None
        if landed is None or position is None:
            return None
        return self._take(_prepend(landed, packets), position, first, stop)

    def _take(
        self, packets: Iterator[Packet[VideoStream]], position: int, first: int, stop: int
    ) -> list[Packet[VideoStream]] | None:
        """Collect first..stop-1 of packets that start at `position`; None if they do not match."""
        taken = []
        # The range comes first: at its end zip takes no further packet.
        for at, packet in zip(range(position, stop), packets, strict=False):
            if not self.table.matches(at, packet):
                return None
            if at >= first:
                taken.append(packet)
        return taken if len(taken) == stop - first else None


def _prepend(
    first: Packet[VideoStream], rest: Iterator[Packet[VideoStream]]
) -> Iterator[Packet[VideoStream]]:
    yield first
    yield from rest


def describe_segment(file: bytes, video: VideoStream, limits: Limits) -> dict[str, Any]:
    """Return fields of `StreamInfo`: a segment's first frame alone tells how it is to be rotated.

    Where nothing decodes, what probing found of `video`, the stream that the segment was cut out
    of, is returned: asking for a frame will fail.
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
        shape = (codec.pix_fmt or "unknown", codec.width, codec.height, 0)
        if frame is not None:
            shape = (frame.format.name, frame.width, frame.height, quarter_turns(frame) * 90)
        names = ("pixel_format", "width", "height", "rotation")
        return {"codec_name": codec_name, **dict(zip(names, shape, strict=True))}
