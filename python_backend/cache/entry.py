"""One cache entry as bytes: arrays and a few fields under a checksum, no pickle.

An entry is a magic with the format's version, 8 bytes (length of the header), the header (JSON:
the key, the fields, each array's name, dtype and shape, then spaces up to a multiple of 64 bytes),
the arrays in that order, and the SHA-256 of all of it. The key in the header tells an entry from
one that was renamed.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"GSCACHE1"
_PREFIX = struct.Struct("<8sQ")
_ALIGNMENT = 64
_DIGEST_BYTES = hashlib.sha256().digest_size
_DTYPES = {"bool", "float16", "float32", "float64"}


class CorruptEntryError(Exception):
    """The bytes are not the entry that was written under this key."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """What is stored under a key."""

    fields: dict[str, Any]
    """What JSON can hold."""
    arrays: dict[str, NDArray[Any]]
    """bool, float16, float32 or float64."""


def pack(key: str, entry: Entry) -> list[memoryview]:
    """Return the entry as consecutive pieces; the arrays are not copied."""
    layout = [[name, a.dtype.name, a.shape] for name, a in entry.arrays.items()]
    text = json.dumps({"key": key, "fields": entry.fields, "arrays": layout}).encode()
    # JSON ends in any number of spaces; padded, the first array begins at a multiple of 64 bytes.
    header = text + b" " * (-(_PREFIX.size + len(text)) % _ALIGNMENT)
    pieces = [memoryview(_PREFIX.pack(_MAGIC, len(header)) + header)]
    for array in entry.arrays.values():
        # reshape before view: an array of no dimensions has no last one to view as bytes.
        pieces.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return [*pieces, memoryview(digest.digest())]


def unpack(key: str, data: NDArray[np.uint8], *, is_verified: bool = False) -> Entry:
    """Read an entry back from the bytes of a file; its arrays are views of them.

    `is_verified` says that the checksum is known to match; computing it is most of the work.
    """
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if not is_verified and hashlib.sha256(body.data).digest() != digest.tobytes():
        raise CorruptEntryError("the checksum does not match")
    try:
        magic, header_bytes = _PREFIX.unpack_from(body.data)
        header = json.loads(body[_PREFIX.size : _PREFIX.size + header_bytes].tobytes())
        # The name of a file is not under the checksum, so the key is.
        if magic != _MAGIC or header["key"] != key:
            raise CorruptEntryError("an entry of another key or format")
        arrays = dict(_views(body[_PREFIX.size + header_bytes :], header["arrays"]))
        return Entry(fields=dict(header["fields"]), arrays=arrays)
    except (struct.error, ValueError, LookupError, TypeError) as error:
        raise CorruptEntryError("a malformed entry") from error


def _views(
    data: NDArray[np.uint8], layout: list[tuple[str, str, list[int]]]
) -> Iterator[tuple[str, NDArray[Any]]]:
    start = 0
    for name, dtype, shape in layout:
        if dtype not in _DTYPES:
            raise ValueError("an array of another kind")
        end = start + np.dtype(dtype).itemsize * math.prod(shape)
        # Raises ValueError where too few bytes are left, which `unpack` words.
        yield name, data[start:end].view(dtype).reshape(shape)
        start = end
    if start != len(data):
        raise ValueError("bytes are left over")
