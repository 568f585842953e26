"""Find the pictures of H.264 that no other picture refers to.

Source: ITU-T H.264, 7.3 (syntax) and 8.2.5 (what `nal_ref_idc` 0 and `frame_num` mean); FFmpeg
8.1, libavcodec/h264dec.c, h264_slice.c and h264_picture.c, for what else lasts from one picture to
the next: parameter sets, supplemental information, and `frame_num`, whose gaps it fills with
pictures of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from groundserve.media._bits import BitReader

_SLICE, _IDR_SLICE, _SEI, _SPS, _AUD, _FILLER = 1, 5, 6, 7, 9, 12
_PARTITIONS = (2, 3, 4)
_PASSING_MESSAGES = {1, 4}
"""Timing, and captions and the like: they tell of their own picture."""
_RECOVERY_POINT = 6
_SLICE_HEADER_BYTES = 32
"""The numbers that are read, of 32 bits at most each, take fewer."""
_HIGH_PROFILES = {44, 83, 86, 100, 110, 118, 122, 128, 244}
_OTHER_PROFILES = {66, 77, 88}


@dataclass(frozen=True, kw_only=True)
class _Picture:
    frame_num: int
    """Counts the pictures that others refer to, modulo `_Sequence.max_frame_num`."""
    is_reference: bool
    is_alone: bool
    """Not a reference, and nothing comes with it that outlasts it."""
    is_idr: bool
    can_start: bool
    """It says itself that decoding may start there."""


def unreferenced(packets: Sequence[bytes], extradata: bytes) -> list[bool]:
    """Say of each packet whether the others decode to the same pictures without it.

    Any number of them may be left out. They begin with a picture where decoding starts. ValueError
    where this is not understood, or there are fields.
    """
    length_bytes, extra_units = _read_extradata(extradata)
    units = [split_nal_units(packet, length_bytes) for packet in packets]
    sets = {unit for part in (extra_units, *units) for unit in part if _type(unit) == _SPS}
    if len(sets) != 1:
        raise ValueError("not one sequence parameter set")
    frame_num_bits = _read_frame_num_bits(sets.pop())
    pictures = [_read_picture(part, frame_num_bits) for part in units]
    first, *rest = pictures
    # FFmpeg holds pictures back until it has seen where decoding may start, or guesses so, which
    # depends on how far frames are reordered. A later start would end what the first began.
    if not first.can_start or any(picture.is_idr for picture in rest):
        raise ValueError("it does not start where it says to")
    max_frame_num = 1 << frame_num_bits
    middle = (
        _is_between(*three, max_frame_num=max_frame_num)
        for three in zip(pictures, pictures[1:], pictures[2:], strict=False)
    )
    return [False, *middle, False][: len(pictures)]


def _is_between(
    before: _Picture, picture: _Picture, after: _Picture, *, max_frame_num: int
) -> bool:
    """Whether a picture is alone and leaves no gap in `frame_num`: n, n + 1, n + 1 as n, n + 1."""
    expected = (before.frame_num + before.is_reference) % max_frame_num
    return picture.is_alone and picture.frame_num == expected == after.frame_num


def _type(unit: bytes) -> int:
    return unit[0] & 0x1F


def _read_extradata(extradata: bytes) -> tuple[int | None, list[bytes]]:
    """Return the bytes of a unit's length, see `split_nal_units`, and the parameter sets."""
    if not extradata:
        return None, []
    if extradata[0] != 1:
        return None, split_nal_units(extradata, None)
    if len(extradata) < 7:
        raise ValueError("a configuration that is none")
    sets = []
    at = 6
    for _ in range(extradata[5] & 0x1F):
        start = at + 2
        at = start + int.from_bytes(extradata[at:start], "big")
        if not start < at <= len(extradata):
            raise ValueError("a parameter set that is none")
        sets.append(extradata[start:at])
    return (extradata[4] & 3) + 1, sets


def _read_frame_num_bits(parameter_set: bytes) -> int:
    reader = BitReader(unescape(parameter_set[1:]))
    profile = reader.fixed(8)
    reader.fixed(16)  # constraints, level
    reader.golomb()  # identifier
    if profile in _HIGH_PROFILES:
        if reader.golomb() == 3 and reader.flag():
            raise ValueError("planes that are coded apart")
        reader.golomb(), reader.golomb()  # bit depths
        reader.flag()
        if reader.flag():
            raise ValueError("scaling matrices")
    elif profile not in _OTHER_PROFILES:
        raise ValueError("an unknown profile")
    frame_num_bits = reader.golomb() + 4
    match reader.golomb():  # how pictures are ordered
        case 0:
            reader.golomb()
        case 1:
            reader.flag()
            reader.golomb(), reader.golomb()
            for _ in range(reader.golomb()):
                reader.golomb()
    reader.golomb(), reader.flag()  # references, gaps
    reader.golomb(), reader.golomb()  # sides
    # A field may be a packet of its own, and half of a frame.
    if not reader.flag():
        raise ValueError("fields")
    if frame_num_bits > 16:
        raise ValueError("too long numbers")
    return frame_num_bits


def _read_picture(units: list[bytes], frame_num_bits: int) -> _Picture:
    kinds = [_type(unit) for unit in units]
    slices = [unit for unit, kind in zip(units, kinds, strict=True) if kind in (_SLICE, _IDR_SLICE)]
    if not slices or any(kind in _PARTITIONS for kind in kinds):
        raise ValueError("not the slices of a picture")
    headers = [BitReader(unescape(unit[1:_SLICE_HEADER_BYTES])) for unit in slices]
    # The block that a slice begins with: one picture begins in a packet, and at its start.
    if [header.golomb() == 0 for header in headers] != [True] + [False] * (len(headers) - 1):
        raise ValueError("not one picture a packet")
    headers[0].golomb(), headers[0].golomb()  # kind of the slice, picture parameter set
    messages: set[int] = set()
    for unit, kind in zip(units, kinds, strict=True):
        if kind == _SEI:
            messages |= message_types(unit[1:])
    is_idr = _IDR_SLICE in kinds
    # Two bits, and a bit before them that is 0.
    is_reference = any(unit[0] & 0xE0 for unit in slices)
    passing = set(kinds) <= {_SLICE, _SEI, _AUD, _FILLER} and messages <= _PASSING_MESSAGES
    return _Picture(
        frame_num=headers[0].fixed(frame_num_bits),
        is_reference=is_reference,
        is_alone=passing and not is_reference,
        is_idr=is_idr,
        can_start=is_idr or _RECOVERY_POINT in messages,
    )


_START_CODE = b"\0\0\1"


def split_nal_units(packet: bytes, length_bytes: int | None) -> list[bytes]:
    """Return the NAL units of a packet, at least one.

    Before each is a length of so many bytes, or a start code where that is None.
    """
    if length_bytes is None:
        before, *units = packet.split(_START_CODE)
        if before.strip(b"\0"):
            raise ValueError("bytes before the first start code")
        units = [unit.rstrip(b"\0") for unit in units]
    else:
        units = []
        at = 0
        while at < len(packet):
            start = at + length_bytes
            at = start + int.from_bytes(packet[at:start], "big")
            units.append(packet[start:at])
        # FFmpeg would see another unit begin there.
        if at != len(packet) or any(_START_CODE in unit for unit in units):
            raise ValueError("lengths that are none")
    if not units or not all(units):
        raise ValueError("no unit, or an empty one")
    return units


def unescape(payload: bytes) -> bytes:
    """Take out the bytes that keep a payload from looking like a start code."""
    return re.sub(b"\0\0\3", b"\0\0", payload)


def message_types(payload: bytes) -> set[int]:
    """Return the kinds of the messages in one unit of supplemental information."""
    data = unescape(payload).rstrip(b"\0")
    types = set()
    at = 0
    # The last byte is the stop bit's.
    while at < len(data) - 1:
        kind, at = _read_sum(data, at)
        size, at = _read_sum(data, at)
        types.add(kind)
        at += size
    if at > len(data):
        raise ValueError("a message of more bytes than there are")
    return types


def _read_sum(data: bytes, at: int) -> tuple[int, int]:
    """Return a number given as bytes to add, of which all but the last are 255, and its end."""
    total = 0
    while at < len(data):
        total += data[at]
        at += 1
        if data[at - 1] != 0xFF:
            return total, at
    raise ValueError("a message without an end")
