"""Stores of small entries, by number."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from python_backend.cache.entry import Entry
from python_backend.cache.store import EntryStore
from python_backend.meter import Counts


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def entry(number: int, num_floats: int = 1000) -> Entry:
    return Entry(fields={"number": number}, arrays={"a": np.full(num_floats, number, np.float32)})


def open_store(directory: Path, *, max_bytes: int = 10**6) -> tuple[EntryStore, Counts]:
    counts = Counts()
    return EntryStore(directory, max_bytes=max_bytes, meter=counts), counts


def file_of(directory: Path, number: int) -> Path:
    return directory / f"{key(number)}.entry"


def total_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def assert_holds(store: EntryStore, number: int) -> None:
    found = store.read(key(number))
    assert found is not None
    assert found.fields == {"number": number}
    np.testing.assert_array_equal(found.arrays["a"], entry(number).arrays["a"])
