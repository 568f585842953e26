"""Find the frames of AV1 that no other frame refers to.

All that lasts from one frame to the next lies in eight slots, and a frame says which it refreshes;
see the AV1 specification, 7.20 and 7.21, and 5.5 and 5.9 for the headers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from groundserve.media._bits import BitReader

_SEQUENCE_HEADER, _DELIMITER, _FRAME_HEADER, _TILE_GROUP, _FRAME = 1, 2, 3, 4, 6
_REPEATED_FRAME_HEADER, _PADDING = 7, 15
_PASSING = {_DELIMITER, _FRAME_HEADER, _TILE_GROUP, _FRAME, _REPEATED_FRAME_HEADER, _PADDING}
_KEY_FRAME, _INTRA_ONLY_FRAME, _SWITCH_FRAME = 0, 2, 3
_SELECT = 2
"""Each frame says for itself."""
_HEADER_BYTES = 64
"""What is read of a header takes fewer."""
_CONFIGURATION_BYTES = 4
"""In front of the sequence header, where the container has one."""


@dataclass(frozen=True, kw_only=True)
class _Sequence:
    """What a frame header cannot be read without."""

    screen_content_tools: int
    integer_mv: int
    frame_id_bits: int
    order_hint_bits: int


def unreferenced(packets: Sequence[bytes], extradata: bytes) -> list[bool]:
    """Say of each packet, a temporal unit, whether the others decode to the same without it.

    Any number of them may be left out. ValueError where this is not understood.
    """
    units = [list(_split(packet)) for packet in packets]
    extra = list(_split(extradata[_CONFIGURATION_BYTES:]))
    sequences = {
        _read_sequence(data)
        for part in (extra, *units)
        for kind, data in part
        if kind == _SEQUENCE_HEADER
    }
    if len(sequences) != 1:
        raise ValueError("not one way to read frame headers")
    sequence = sequences.pop()
    return [_refreshes_nothing(part, sequence) for part in units]


def _split(packet: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of the open bitstream units."""
    at = 0
    while at < len(packet):
        header = packet[at]
        at += 1
        if header & 0x84:  # the forbidden bit, or layers
            raise ValueError("a unit of a layer, or none")
        size = len(packet) - at
        if header & 2:
            size, at = _read_leb128(packet, at)
        if at + size > len(packet):
            raise ValueError("a unit of more bytes than there are")
        yield header >> 3 & 0xF, packet[at : at + size]
        at += size


def _read_leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return a number given as groups of 7 bits, the lowest first, and its end."""
    value = 0
    for place, byte in enumerate(data[at : at + 8]):
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, at + place + 1
    raise ValueError("a size without an end")


def _read_sequence(data: bytes) -> _Sequence:
    reader = BitReader(data)
    reader.fixed(3), reader.flag()  # profile, a single picture
    if reader.flag():
        raise ValueError("headers of a single picture")
    if reader.flag():  # timing
        reader.fixed(64)
        if reader.flag():
            reader.golomb()
        if reader.flag():
            raise ValueError("a model of a decoder")
    has_delays = reader.flag()
    for _ in range(reader.fixed(5) + 1):
        if reader.fixed(12):
            raise ValueError("layers")
        if reader.fixed(5) > 7:  # level
            reader.flag()
        if has_delays and reader.flag():
            reader.fixed(4)
    width_bits, height_bits = reader.fixed(4) + 1, reader.fixed(4) + 1
    reader.fixed(width_bits + height_bits)
    frame_id_bits = 0
    if reader.flag():
        frame_id_bits = reader.fixed(4) + 2
        frame_id_bits += reader.fixed(3) + 1
    reader.fixed(3)  # tools within a frame
    reader.fixed(4)  # tools between frames
    has_order_hint = reader.flag()
    if has_order_hint:
        reader.fixed(2)
    screen_content_tools = _SELECT if reader.flag() else reader.fixed(1)
    integer_mv = _SELECT
    if screen_content_tools and not reader.flag():
        integer_mv = reader.fixed(1)
    return _Sequence(
        screen_content_tools=screen_content_tools,
        integer_mv=integer_mv,
        frame_id_bits=frame_id_bits,
        order_hint_bits=reader.fixed(3) + 1 if has_order_hint else 0,
    )


def _refreshes_nothing(units: list[tuple[int, bytes]], sequence: _Sequence) -> bool:
    # Metadata, for one, outlasts its frame.
    if not {kind for kind, _ in units} <= _PASSING:
        return False
    headers = [data for kind, data in units if kind in (_FRAME, _FRAME_HEADER)]
    return bool(headers) and all(_read_refresh_flags(data, sequence) == 0 for data in headers)


def _read_refresh_flags(data: bytes, sequence: _Sequence) -> int:
    """Return one bit a slot; all of them for a frame that is shown again, which costs nothing."""
    reader = BitReader(data[:_HEADER_BYTES])
    if reader.flag():
        return 0xFF
    frame_type = reader.fixed(2)
    is_shown = reader.flag()
    if not is_shown:
        reader.flag()  # may be shown later
    refreshes_all = frame_type == _SWITCH_FRAME or (frame_type == _KEY_FRAME and is_shown)
    if refreshes_all:
        return 0xFF
    is_error_resilient = reader.flag()
    reader.flag()  # probabilities stay
    has_tools = sequence.screen_content_tools
    if has_tools == _SELECT:
        has_tools = reader.fixed(1)
    if has_tools and sequence.integer_mv == _SELECT:
        reader.flag()
    reader.fixed(sequence.frame_id_bits)
    reader.flag()  # another size
    reader.fixed(sequence.order_hint_bits)
    if frame_type not in (_KEY_FRAME, _INTRA_ONLY_FRAME) and not is_error_resilient:
        reader.fixed(3)  # the slot to start from
    return reader.fixed(8)
