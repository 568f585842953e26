from __future__ import annotations

import json

import numpy as np
import pytest

from python_backend.cache.entry import CorruptEntryError, Entry, pack, unpack

KEY = "ab" * 32
ENTRY = Entry(
    fields={"average_fps": 29.97002997002997, "codec_name": "h264"},
    arrays={
        "pts_seconds": np.array([0.0, 0.1 + 0.2]),
        "is_key": np.array([True, False, True]),
        "features": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
        "none": np.empty((0, 3), np.float32),
    },
)


def packed(entry=ENTRY, key=KEY) -> np.ndarray:
    return np.frombuffer(bytearray(b"".join(pack(key, entry))), np.uint8)


def test_every_flipped_bit_is_found():
    for position in range(len(packed())):
        data = packed()
        data[position] ^= 1 << position % 8
        with pytest.raises(CorruptEntryError):
            unpack(KEY, data)


def test_entry_of_another_key_is_refused():
    with pytest.raises(CorruptEntryError, match="another key"):
        unpack("cd" * 32, packed())


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        json.dumps({"key": KEY, "fields": {}, "arrays": [["a", "object", [1]]]}).encode(),
        json.dumps({"key": KEY, "fields": {}, "arrays": [["a", "bool", [10**9]]]}).encode(),
        json.dumps({"key": KEY, "fields": {}, "arrays": []}).encode(),
    ],
)
def test_sound_checksum_over_nonsense_is_refused(header):
    import hashlib

    body = b"GSCACHE1" + len(header).to_bytes(8, "little") + header + b"left over"
    data = np.frombuffer(body + hashlib.sha256(body).digest(), np.uint8)
    with pytest.raises(CorruptEntryError):
        unpack(KEY, data)
