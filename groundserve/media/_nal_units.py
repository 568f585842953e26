"""Take packets of H.264 and HEVC apart: NAL units, and the messages of supplemental information."""

from __future__ import annotations

import re

_START_CODE = b"\0\0\1"


def split_nal_units(packet: bytes, length_bytes: int | None) -> list[bytes]:
    """Return the NAL units of a packet, at least one.

    Args:
        packet: The whole packet.
        length_bytes: Bytes of the length before each unit; None where start codes part them.

    Raises:
        ValueError: It is not such a packet.
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
    """Return the kinds of the messages in one unit of supplemental information.

    Raises:
        ValueError: A message ends behind the unit.
    """
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
