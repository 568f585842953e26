"""A disk with less room than the cache may take: older entries go, and it is used on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from python_backend.cache import store as store_module
from tests.unit.python_backend.cache.stores import (
    assert_holds,
    entry,
    key,
    open_store,
)

CAPACITY = 20_000  # four entries of 4,000 bytes and their headers
BLOCK = 1


class SmallDisk:
    """A directory that holds so many bytes; what is past them fails when it gets its name."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.capacity = CAPACITY
        self._directory = directory
        self._number = number
        self._rename = Path.rename
        monkeypatch.setattr(Path, "rename", lambda path, target: self.rename(path, target))
        monkeypatch.setattr(store_module.os, "statvfs", lambda path: self.status())

    def used(self) -> int:
        return sum(path.stat().st_size for path in self._directory.iterdir())

    def status(self) -> os.statvfs_result:
        free = max(0, self.capacity - self.used())
        return os.statvfs_result((BLOCK, BLOCK, self.capacity, free, free, 9, 9, 9, 0, 255))

    def rename(self, path: Path, target: Path) -> Path:
        if self.used() > self.capacity:
            raise OSError(self._number, os.strerror(self._number))
        return self._rename(path, target)


@pytest.fixture(params=[errno.ENOSPC, errno.EDQUOT], ids=["full", "quota"])
def disk(request, tmp_path, monkeypatch):
    return SmallDisk(tmp_path, monkeypatch, request.param)


@pytest.mark.usefixtures("disk")
def test_oldest_entries_make_room_on_a_full_disk(tmp_path):
    store, counts = open_store(tmp_path)
    for number in range(40):
        store.write(key(number), entry(number))
        assert_holds(store, number)
    assert len(list(tmp_path.glob("*.entry"))) == 4
    assert counts["cache_evictions"] == 36
    assert counts["cache_failures"] == 0
    assert not list(tmp_path.glob("*.partial"))
