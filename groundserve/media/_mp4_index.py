"""List the packets of an MP4 or MOV file from its index, without reading the samples."""

from __future__ import annotations

import os
from fractions import Fraction
from operator import attrgetter

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from groundserve.limits import Limits
from groundserve.media import _mp4
from groundserve.media._h264_keys import ASK, KEY, find_h264_keys
from groundserve.media._mp4 import SampleTables, UnclearIndexError, read_sample_tables, require
from groundserve.media._packets import PacketTable, check_duration, max_packets

_FORMAT = "mov,mp4,m4a,3gp,3g2,mj2"
# Codecs whose packets FFmpeg hands on as they are stored; of others it makes other packets (VP9),
# or key packets (AV1).
_CODECS = ("h264", "hevc", "mpeg4")
# AVINDEX_KEYFRAME, AVINDEX_DISCARD_FRAME, in a field of two bits with a sign.
_KEY, _DISCARD = 1, 2
_BLOCK_ENTRIES = 2**15
_MAX_QUESTIONS = 2048
"""Packets that FFmpeg is asked about; 0.05 ms each in an hour of video."""
_MAX_TIME = 2**60


def list_indexed_packets(
    fd: int, container: InputContainer, stream: VideoStream, limits: Limits
) -> tuple[PacketTable, NDArray[np.int64]] | None:
    """Make of the index the list that demuxing would make.

    FFmpeg has read the index when it opened the file and applied the edits; it says where each
    packet lies, how large it is, when it is decoded and whether it is presented. When a packet is
    shown it does not say, so that is read from the file, and both must agree on where samples are.

    Return the list, and int64 (k,) positions whose `is_key` is to be taken from their packets; None
    where the index is not certain to say what demuxing would.
    """
    if not _is_candidate(container, stream):
        return None
    try:
        dts, sizes, offsets, flags = _read_entries(stream)
        require(len(dts) <= max_packets(limits))
        # Decoding times that do not increase FFmpeg takes away, packets without data it leaves out.
        require(np.all(np.diff(dts) > 0) and np.all(sizes > 0) and abs(dts).max() < _MAX_TIME)
        # Behind the end of the file it stops.
        require(offsets.min() >= 0 and (offsets + sizes).max() <= os.fstat(fd).st_size)
        pts = dts + _delays_of(offsets, sizes, read_sample_tables(fd, stream.id))
        name = stream.codec_context.name
        # For codecs other than these FFmpeg sets a decoding time that is past the presentation.
        require(name in ("h264", "hevc") or np.all(pts >= dts))
        is_key = flags & _KEY != 0
        doubtful = np.empty(0, np.int64)
        if name == "h264":
            states = find_h264_keys(fd, offsets, sizes, stream.codec_context.extradata or b"")
            is_key, doubtful = states == KEY, np.flatnonzero(states == ASK)
        require(len(doubtful) <= _MAX_QUESTIONS)
    except UnclearIndexError:
        return None
    _check_times(pts, stream, limits)
    table = PacketTable(
        pts=pts,
        dts=dts,
        sizes=sizes,
        is_key=is_key,
        is_discard=flags & _DISCARD != 0,
        is_hidden=np.zeros(len(pts), np.bool_),
        offsets=offsets,
    )
    return table, doubtful


def _is_candidate(container: InputContainer, stream: VideoStream) -> bool:
    return (
        container.format.name == _FORMAT
        and stream.codec_context.name in _CODECS
        and stream.time_base is not None
        # Else it is that of a packet yet to come.
        and stream.start_time is not None
        and abs(stream.start_time) < _MAX_TIME
        and 0 < len(stream.index_entries) <= _mp4.MAX_SAMPLES
    )


def _read_entries(stream: VideoStream) -> tuple[NDArray[np.int64], ...]:
    """Return int64 (P,) each: decoding times, sizes, offsets and flags of FFmpeg's own index."""
    entries = stream.index_entries
    columns = [attrgetter(name) for name in ("timestamp", "size", "pos", "flags")]
    blocks = []
    for first in range(0, len(entries), _BLOCK_ENTRIES):
        block = entries[first : first + _BLOCK_ENTRIES]
        blocks.append([np.fromiter(map(read, block), np.int64, len(block)) for read in columns])
    return tuple(np.concatenate(column) for column in zip(*blocks, strict=True))


def _delays_of(
    offsets: NDArray[np.int64], sizes: NDArray[np.int64], tables: SampleTables
) -> NDArray[np.int64]:
    """Return int64 (P,), the delays of the packets, which must be one run of the samples."""
    starts = np.flatnonzero(tables.offsets == offsets[0])
    require(len(starts) == 1)
    run = slice(int(starts[0]), int(starts[0]) + len(offsets))
    require(np.array_equal(tables.offsets[run], offsets))
    require(np.array_equal(tables.sizes[run], sizes))
    return tables.delays[run]


def _check_times(pts: NDArray[np.int64], stream: VideoStream, limits: Limits) -> None:
    assert stream.time_base is not None
    assert stream.start_time is not None
    times = pts - stream.start_time
    last = Fraction(limits.max_duration_seconds) / stream.time_base
    for time in times[times > min(int(last), _MAX_TIME)]:
        check_duration(float(int(time) * stream.time_base), limits)
