"""Edit the boxes of an MP4 file, so that it says what no muxer would write."""

from __future__ import annotations

import struct

_HEADER_BYTES = 8
_SAMPLE_TABLE = "moov/trak/mdia/minf/stbl"


def content_offset(data: bytes, path: str) -> int:
    """Return where the content of a box starts, given as "moov/trak/mdia"; the first of a name."""
    start, end = 0, len(data)
    for name in path.split("/"):
        start, end = _find(data, name.encode(), start, end)
    return start


def patch_box(data: bytes, path: str, offset: int, *values: int) -> bytes:
    """Overwrite 32-bit numbers in a box, `offset` bytes into its content."""
    start = content_offset(data, path) + offset
    new = struct.pack(f">{len(values)}I", *values)
    return data[:start] + new + data[start + len(new) :]


def replace_box(data: bytes, path: str, content: bytes) -> bytes:
    """Give a box other content; the boxes around it are told. It must stand after `mdat`."""
    names = path.split("/")
    parents = ["/".join(names[:i]) for i in range(1, len(names))]
    start = content_offset(data, path)
    grown = len(content) - (_size(data, start) - _HEADER_BYTES)
    new = data[:start] + content + data[start + len(content) - grown :]
    for box in (*parents, path):
        new = patch_box(new, box, -_HEADER_BYTES, _size(data, content_offset(data, box)) + grown)
    return new


def announcing(data: bytes, num_samples: int) -> bytes:
    """Announce samples of one byte each, all in one chunk: an index without a table."""
    data = replace_box(data, f"{_SAMPLE_TABLE}/stsz", struct.pack(">3I", 0, 1, num_samples))
    data = replace_box(data, f"{_SAMPLE_TABLE}/stsc", struct.pack(">5I", 0, 1, 1, num_samples, 1))
    return replace_box(data, f"{_SAMPLE_TABLE}/stts", struct.pack(">4I", 0, 1, num_samples, 1))


def _size(data: bytes, content_start: int) -> int:
    size: int = struct.unpack_from(">I", data, content_start - _HEADER_BYTES)[0]
    return size


def _find(data: bytes, name: bytes, start: int, end: int) -> tuple[int, int]:
    while start < end:
        size = _size(data, start + _HEADER_BYTES)
        if data[start + 4 : start + 8] == name:
            return start + _HEADER_BYTES, start + size
        start += size
    raise LookupError(f"no box {name!r}")
