"""What the tests of DALI decode with, and hand over to."""

from __future__ import annotations

import io
from dataclasses import replace

import av
import numpy as np

from groundserve.media import Segments
from groundserve.runtime.deadline import Deadline
from python_backend.decode import DecodedFrames

IMAGE_SIZE = 56


class Fallback:
    """Answers black frames and remembers how often it was asked."""

    def __init__(self) -> None:
        self.num_calls = 0

    def decode(self, segments: Segments, *, deadline: Deadline) -> DecodedFrames:
        self.num_calls += 1
        return DecodedFrames((np.zeros((segments.num_frames, 2, 2, 3), np.uint8),), "pyav")


def with_hidden_packets(segments: Segments, first: int) -> Segments:
    """Tell VP8 not to show packets from there on, which the description still counts."""
    data = segments.data.copy()
    with av.open(io.BytesIO(segments.data.tobytes())) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for packet in packets[first:]:
        data[segments.data.tobytes().index(packet)] &= 0xEF
    return replace(segments, data=data)


def overwritten(segments: Segments, value: int) -> Segments:
    data = segments.data.copy()
    middle = len(data) // 2
    data[middle - 150 : middle + 150] = value
    return replace(segments, data=data)
