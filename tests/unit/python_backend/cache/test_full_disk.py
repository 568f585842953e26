"""A disk with less room than the cache may take: older entries go, and it is used on."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from python_backend.cache import store as store_module
from tests.reference import REPOSITORY
from tests.unit.python_backend.cache.test_store import (
    assert_holds,
    entry,
    file_of,
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


@pytest.mark.usefixtures("disk")
def test_entry_larger_than_the_disk_evicts_nothing(tmp_path):
    store, counts = open_store(tmp_path)
    store.write(key(1), entry(1))
    store.write(key(2), entry(2, num_floats=CAPACITY))
    assert_holds(store, 1)
    assert (counts["cache_evictions"], counts["cache_failures"]) == (0, 1)


def test_disk_that_others_fill_is_logged_once_a_spell_and_used_again(tmp_path, disk, caplog):
    store, counts = open_store(tmp_path)
    with caplog.at_level(logging.WARNING):
        for spell in (1, 2):
            disk.capacity = 0
            for number in (1, 2):
                store.write(key(number), entry(number))
                assert store.read(key(number)) is None
            disk.capacity = CAPACITY
            for number in (1, 2):
                store.write(key(number), entry(number))
                assert_holds(store, number)
            assert counts["cache_failures"] == 2 * spell
    texts = [record.getMessage().partition(":")[0] for record in caplog.records]
    once = ["the feature cache is not usable now", "the feature cache is usable again"]
    assert texts == once * 2


ON_A_SMALL_DISK = """
import json, sys
from pathlib import Path
from tests.unit.python_backend.cache.test_store import entry, key, open_store

folder = Path(sys.argv[1])
stores = [open_store(folder / "cache", max_bytes=10**9)[0] for _ in range(2)]
for number in range(300):  # 30 MB through 1 MB, by two writers in turn
    stores[number % 2].write(key(number), entry(number, num_floats=25_000))
    assert stores[1 - number % 2].read(key(number)).fields == {"number": number}
kept = len(list((folder / "cache").glob("*.entry")))
store, counts = open_store(folder / "cache", max_bytes=10**9)
with (folder / "others").open("wb", buffering=0) as others:
    try:
        while others.write(bytes(4096)):
            pass
    except OSError:
        pass
    for number in range(400, 403):
        store.write(key(number), entry(number, num_floats=300_000))  # more than the disk
    failures, survived = counts["cache_failures"], len(list((folder / "cache").glob("*.entry")))
    store.write(key(500), entry(500, num_floats=25_000))
    assert store.read(key(500)).fields == {"number": 500}
print(json.dumps([kept, failures, survived, counts["cache_failures"]]))
"""


def test_real_full_disk(tmp_path):
    """A tmpfs of 1 MiB in a mount namespace of its own, which root may make."""
    mount = 'mount -t tmpfs -o size=1m,mode=700 tmpfs "$0" && exec "$@"'
    unshare = ["unshare", "--mount", "sh", "-c", mount, str(tmp_path)]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs root; the tests above run anywhere")
    finished = subprocess.run(
        [*unshare, sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert finished.returncode == 0, finished.stderr
    kept, failures, survived, failures_at_end = json.loads(finished.stdout)
    assert kept >= 8
    assert failures == failures_at_end == 3
    assert survived >= 8
    assert not file_of(tmp_path / "cache", 1).exists()  # it was mounted elsewhere
