"""Which samples of H.264 decoding can start at, told from their first bytes as FFmpeg tells it.

FFmpeg's MP4 reader does not take the container's word for H.264. Its parser walks the NAL units of
each sample up to the first slice:

    length│AUD   length│SEI            length│slice        key: an IDR slice, or any slice behind a
    ──────┴────  ──────┴─────────────  ──────┴───────      recovery point, or an I slice where the
                                                           parameter sets allow one reference

Source: FFmpeg 8.1, libavcodec/h264_parser.c, `parse_nal_units`; libavcodec/h264_sei.c,
`ff_h264_sei_decode`. Units: ITU-T H.264, 7.3.1, 7.3.2.3, 7.3.3.
"""

from __future__ import annotations

import os
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from groundserve.media._mp4 import UnclearIndexError

UNKNOWN, NOT_KEY, KEY, ASK = range(4)
"""What is known of a sample. ASK: FFmpeg's parser must say."""
_HEAD_BYTES = 64
_LONG_HEAD_BYTES = 2048
"""Enough for x264's list of its settings."""
_BLOCK_SAMPLES = 2**15
"""Taken at a time, 2 MiB of heads."""
_MAX_LONG_HEADS = 2**14
_MAX_UNITS = 8
"""Looked at in one sample."""
_SLICE, _IDR_SLICE, _SEI, _SPS, _PPS = 1, 5, 6, 7, 8
_RECOVERY_POINT = 6


def _predicted_slices() -> NDArray[np.bool_]:
    """Bool (256,): whether a slice header that starts with this byte is surely of no I slice."""
    # 7.3.3: first_mb_in_slice, then slice_type, in Exp-Golomb codes. "1" is macroblock 0; types 2
    # and 7, "011" and "0001000", are I.
    bits = [f"{byte:08b}" for byte in range(256)]
    others = ("1", "010", "00100", "00101", "00110", "00111", "0001001", "0001010")
    return np.array([b[0] == "1" and b[1:].startswith(others) for b in bits])


_IS_PREDICTED = _predicted_slices()


def find_h264_keys(
    fd: int, offsets: NDArray[np.int64], sizes: NDArray[np.int64], extradata: bytes
) -> NDArray[np.uint8]:
    """Tell key samples, at these offsets and of these sizes, from others: NOT_KEY, KEY or ASK.

    UnclearIndexError where a sample does not start as they do, or the answer hangs on parameter
    sets that are stored among the samples.
    """
    if len(extradata) < 7 or extradata[0] != 1:
        raise UnclearIndexError
    length_bytes = (extradata[4] & 3) + 1
    states = np.empty(len(offsets), np.uint8)
    has_sets = False
    for first in range(0, len(offsets), _BLOCK_SAMPLES):
        block = slice(first, first + _BLOCK_SAMPLES)
        heads = _read_heads(fd, offsets[block], _HEAD_BYTES)
        states[block], found = _classify(heads, sizes[block], length_bytes)
        has_sets |= found
    long = np.flatnonzero(states == UNKNOWN)
    if len(long) > _MAX_LONG_HEADS:
        raise UnclearIndexError
    for rows in np.split(long, range(1024, len(long), 1024)):
        heads = _read_heads(fd, offsets[rows], _LONG_HEAD_BYTES)
        states[rows], found = _classify(heads, sizes[rows], length_bytes)
        has_sets |= found
    # FFmpeg is asked after a seek, when its parser has forgotten sets that it met before.
    if np.any(states == UNKNOWN) or (has_sets and np.any(states == ASK)):
        raise UnclearIndexError
    return states


def _read_heads(fd: int, offsets: NDArray[np.int64], num_bytes: int) -> NDArray[np.uint8]:
    """Return uint8 (P, num_bytes), zeros behind the end of the file."""
    heads = map(os.pread, repeat(fd), repeat(num_bytes), offsets.tolist())
    data = b"".join(head.ljust(num_bytes, b"\0") for head in heads)
    return np.frombuffer(data, np.uint8).reshape(-1, num_bytes)


def _classify(
    heads: NDArray[np.uint8], sizes: NDArray[np.int64], length_bytes: int
) -> tuple[NDArray[np.uint8], bool]:
    """Walk the units of all samples side by side, up to the first slice of each.

    Of each sample `heads`, uint8 (P, H), has the first bytes, and what follows a shorter one.
    Return what is known, uint8 (P,), and whether there is a parameter set before a slice.
    """
    states = np.full(len(heads), UNKNOWN, np.uint8)
    recovers = np.zeros(len(heads), np.bool_)
    may_recover = np.zeros(len(heads), np.bool_)
    has_sets = False
    seen = np.minimum(sizes, heads.shape[1])
    # Samples that are still walked, and where the next unit's length stands: (p,), p <= P.
    rows, at = np.arange(len(heads)), np.zeros(len(heads), np.int64)
    for _ in range(_MAX_UNITS):
        start = at + length_bytes
        fits = start + 2 <= seen[rows]
        rows, at, start = rows[fits], at[fits], start[fits]
        unit = np.zeros(len(rows), np.int64)
        for i in range(length_bytes):
            unit = unit << 8 | heads[rows, at + i]
        end = start + unit
        intact = (unit >= 2) & (end <= sizes[rows])
        rows, start, end = rows[intact], start[intact], end[intact]
        kind = heads[rows, start] & 0x1F

        is_slice = kind == _SLICE
        states[rows[kind == _IDR_SLICE]] = KEY
        slices = rows[is_slice]
        predicted = _IS_PREDICTED[heads[slices, start[is_slice] + 1]] & ~may_recover[slices]
        states[slices] = np.where(recovers[slices], KEY, np.where(predicted, NOT_KEY, ASK))

        # Other units are passed over, where they hold nothing that FFmpeg would take for an end.
        passed = ~is_slice & (kind != _IDR_SLICE) & (end <= seen[rows])
        rows, start, end, kind = rows[passed], start[passed], end[passed], kind[passed]
        whole = ~_has_start_code(heads[rows], start, end)
        rows, start, end, kind = rows[whole], start[whole], end[whole], kind[whole]
        has_sets |= bool(np.any((kind == _SPS) | (kind == _PPS)))
        is_sei = kind == _SEI
        sei, starts, ends = rows[is_sei], start[is_sei], end[is_sei]
        surely, perhaps = _recovery_points(heads[sei], starts, ends)
        recovers[sei] |= surely
        may_recover[sei] |= perhaps
        at = end
    return states, has_sets


def _has_start_code(
    heads: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether FFmpeg may see the unit in start..end-1 end before its end, bool (p,)."""
    pair = (heads[:, :-2] == 0) & (heads[:, 1:-1] == 0)
    third = heads[:, 2:]
    code = pair & ((third == 1) | (third == 2)) & _inside(start, end - 2, third.shape[1])
    found: NDArray[np.bool_] = np.any(code, axis=1)
    return found


def _recovery_points(
    heads: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the messages in start..end-1 surely hold one, and whether perhaps, bool (p,) each."""
    # Messages are type, size, payload; both numbers are one byte below 255. Two bytes or fewer
    # behind a message are no further one.
    row = np.arange(len(heads))
    width = heads.shape[1]
    kind, size = heads[row, start + 1], heads[row, np.minimum(start + 2, width - 1)]
    payload = heads[row, np.minimum(start + 3, width - 1)]
    left = end - (start + 3 + size)
    # The payload starts with recovery_frame_cnt in Exp-Golomb code: "1" is 0.
    surely = (kind == _RECOVERY_POINT) & (size > 0) & (size < 255) & (left >= 0)
    surely &= payload >= 0x80
    alone = (kind != _RECOVERY_POINT) & (kind < 255) & (size < 255) & (left <= 2)
    # Of a message with escapes ("0 0 3") places are not known; they add no byte that is not there.
    zero = heads == 0
    escaped = np.any(zero[:, :-1] & zero[:, 1:] & _inside(start, end - 1, width - 1), axis=1)
    named = np.any((heads == _RECOVERY_POINT) & _inside(start + 1, end, width), axis=1)
    return surely & ~escaped, named & (escaped | ~alone)


def _inside(start: NDArray[np.int64], stop: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
    """Return bool (p, width), the columns start..stop-1 of each row."""
    column = np.arange(width)
    inside: NDArray[np.bool_] = (column >= start[:, None]) & (column < stop[:, None])
    return inside
