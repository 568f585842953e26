from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from pathlib import Path

import pytest

from groundserve.runtime.deadline import Deadline
from tests.unit.python_backend.cache.stores import (
    assert_holds,
    entry,
    file_of,
    key,
    open_store,
    total_bytes,
)


def test_least_recently_used_go_first(tmp_path):
    size = sum(piece.nbytes for piece in _packed(1))
    store, counts = open_store(tmp_path, max_bytes=3 * size)
    for number in (1, 2, 3):
        store.write(key(number), entry(number))
        time.sleep(0.01)
    assert_holds(store, 1)
    store.write(key(4), entry(4))
    assert store.read(key(2)) is None
    for number in (1, 3, 4):
        assert_holds(store, number)
    assert counts["cache_evictions"] == 1
    assert counts.cache_bytes == total_bytes(tmp_path) <= 3 * size


def test_partial_file_of_a_dead_writer_is_swept_and_a_live_ones_is_not(tmp_path):
    store, _ = open_store(tmp_path)
    dead, live = (tmp_path / f"{key(number)[:32]}.partial" for number in (1, 2))
    other = tmp_path / "notes.partial"
    for path in (dead, live, other):
        path.write_bytes(b"half")
    for path in (dead, other):
        os.utime(path, (0, 0))
    store.write(key(3), entry(3))
    assert [path.exists() for path in (dead, live, other)] == [False, True, True]


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES])
def test_disk_that_takes_nothing_costs_nothing_but_hits(tmp_path, monkeypatch, caplog, number):
    store, counts = open_store(tmp_path)
    store.write(key(1), entry(1))

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        patch.setattr(os, "utime", refuse)
        for again in (2, 3):
            store.write(key(again), entry(again))
            assert store.read(key(again)) is None
        assert_holds(store, 1)
    assert counts["cache_failures"] == 2
    assert len(caplog.records) == 1
    assert os.strerror(number) in caplog.text
    assert not list(tmp_path.glob("*.partial"))
    store.write(key(2), entry(2))
    assert_holds(store, 2)
    assert "usable again" in caplog.text


def test_directory_removed_and_made_anew_is_used_again(tmp_path):
    directory = tmp_path / "cache"
    store, counts = open_store(directory)
    store.write(key(1), entry(1))
    shutil.rmtree(directory)
    assert store.read(key(1)) is None
    with store.locked(key(1), deadline=Deadline.after(1)):
        store.write(key(1), entry(1))
    assert_holds(store, 1)
    assert directory.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(directory)
    directory.mkdir(mode=0o755)
    store.write(key(2), entry(2))
    assert_holds(store, 2)
    assert counts["cache_failures"] == 0


def test_directory_made_anew_for_everybody_is_not_used(tmp_path, caplog):
    directory = tmp_path / "cache"
    store, counts = open_store(directory)
    store.write(key(1), entry(1))
    directory.chmod(0o777)
    assert store.read(key(1)) is None
    store.write(key(2), entry(2))
    assert not file_of(directory, 2).exists()
    assert counts["cache_failures"] == 2
    assert caplog.text.count("can be changed by other users") == 1
    directory.chmod(0o700)
    assert_holds(store, 1)


def _packed(number: int):
    from python_backend.cache.entry import pack

    return pack(key(number), entry(number))
