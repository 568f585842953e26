"""Entries that are damaged after a process found them sound."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from python_backend.cache import store as store_module
from tests.unit.python_backend.cache.stores import (
    assert_holds,
    entry,
    file_of,
    key,
    open_store,
)


@pytest.fixture
def later(monkeypatch) -> None:
    """Everything on the disk was written long ago."""
    clock = SimpleNamespace(time=lambda: time.time() + 60, time_ns=time.time_ns)
    monkeypatch.setattr(store_module, "time", clock)


@pytest.mark.usefixtures("later")
def test_entries_damaged_after_they_were_found_sound_are_found(tmp_path):
    store, counts = open_store(tmp_path)
    rng = random.Random(20251122)
    for number in range(20):
        store.write(key(number), entry(number))
        assert_holds(store, number)
        DAMAGES[number % len(DAMAGES)](file_of(tmp_path, number), rng)
        assert store.read(key(number)) is None
    assert counts["cache_corrupted"] == 20


def _flip_in_place(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        place = rng.randrange(path.stat().st_size)
        byte = os.pread(file.fileno(), 1, place)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1 << rng.randrange(8)]), place)


def _truncate(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def _replace(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1
    other = path.with_suffix(".other")
    other.write_bytes(data)
    other.rename(path)


DAMAGES = (_flip_in_place, _truncate, _replace)
