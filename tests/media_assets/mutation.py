"""Damage a file the way that disks, networks and attackers do, one seeded way at a time."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

Mutation = Callable[[bytearray, np.random.Generator], None]

_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9 ]{3}")
_LIES = (0, 1, 7, 8, 2**16, 10**9, 2**31 - 1, 2**31, 2**32 - 1)
"""Sizes and counts that parsers stumble over."""


def mutate(data: bytes, seed: int) -> bytes:
    """Return the file with one to three mutations."""
    rng = np.random.default_rng(seed)
    mutated = bytearray(data)
    for choice in rng.integers(len(MUTATIONS), size=rng.integers(1, 4)):
        MUTATIONS[choice](mutated, rng)
    return bytes(mutated)


def _flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    for position in rng.integers(len(data), size=rng.integers(1, max(2, len(data) // 200))):
        data[position] ^= 1 << int(rng.integers(8))


def _truncate(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(1, len(data))) :]


def _delete_chunk(data: bytearray, rng: np.random.Generator) -> None:
    chunk = _chunk(data, rng)
    if len(data) > chunk.stop - chunk.start:
        del data[chunk]


def _duplicate_chunk(data: bytearray, rng: np.random.Generator) -> None:
    chunk = _chunk(data, rng)
    data[chunk.start : chunk.start] = data[chunk]


def _lie_beside_a_name(data: bytearray, rng: np.random.Generator) -> None:
    """Change the number before a four-letter name (a box's size) or behind it (a chunk's)."""
    names = [match.start() for match in _NAME.finditer(data)]
    if names:
        _write_lie(data, int(rng.choice(names)) + int(rng.choice([-4, 4, 8, 12, 16])), rng)


def _lie_anywhere_in_the_header(data: bytearray, rng: np.random.Generator) -> None:
    _write_lie(data, int(rng.integers(min(len(data), 1024))), rng)


def _chunk(data: bytearray, rng: np.random.Generator) -> slice:
    start = int(rng.integers(len(data)))
    return slice(start, min(len(data), start + int(rng.integers(1, 2000))))


def _write_lie(data: bytearray, position: int, rng: np.random.Generator) -> None:
    if 0 <= position <= len(data) - 4:
        lie = int(rng.choice(_LIES))
        data[position : position + 4] = lie.to_bytes(4, str(rng.choice(["big", "little"])))


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _truncate,
    _delete_chunk,
    _duplicate_chunk,
    _lie_beside_a_name,
    _lie_anywhere_in_the_header,
)
