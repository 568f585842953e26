"""Which directories and files are believed, and that others cost nothing but hits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from groundserve.errors import InvalidRequestError
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.cache import config as config_module
from python_backend.cache import store as store_module
from python_backend.meter import Counts
from tests.unit.python_backend.cache.stores import (
    assert_holds,
    entry,
    file_of,
    key,
    open_store,
)


def open_to_others(folder: Path) -> Path:
    (folder / "cache").mkdir()
    (folder / "cache").chmod(0o777)
    return folder / "cache"


def a_link(folder: Path) -> Path:
    (folder / "real").mkdir()
    (folder / "cache").symlink_to("real")
    return folder / "cache"


REFUSED = {
    open_to_others: r"can be changed by other users.*\(mode 0777\); chmod 700 ",
    a_link: "is a symbolic link; name the directory that it leads to",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_directory_that_others_may_change_or_that_is_none_is_refused(tmp_path, make):
    directory = make(tmp_path)
    config = CacheConfig(directory=directory)
    for use in (lambda: FeatureCache(config, meter=Counts()), config.prepare):
        with pytest.raises(InvalidRequestError, match=REFUSED[make]) as refused:
            use()
        assert str(refused.value).startswith(f"the cache directory (--cache-dir) {directory} ")


def test_directory_of_another_user_is_refused_with_what_to_do(tmp_path, monkeypatch):
    """As it looks to a server with another user id: a volume that root mounted."""
    (tmp_path / "cache").mkdir()
    me = os.geteuid()
    monkeypatch.setattr(config_module.os, "geteuid", lambda: me + 1)
    expected = f"belongs to user {me} and this is user {me + 1}: .* chown {me + 1} .*/cache"
    with pytest.raises(InvalidRequestError, match=expected):
        CacheConfig(directory=tmp_path / "cache").prepare()


def test_directory_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    """As on a disk that is mounted read-only; root may write wherever modes alone forbid it."""
    monkeypatch.setattr(config_module.os, "access", lambda *args, **kwargs: False)
    with pytest.raises(InvalidRequestError, match="cannot be read and written"):
        CacheConfig(directory=tmp_path / "cache").prepare()


@pytest.mark.timeout(30)
def test_a_pipe_or_a_link_in_place_of_an_entry_is_replaced(tmp_path):
    store, counts = open_store(tmp_path)
    for number in (1, 2):
        store.write(key(number), entry(number))
        file_of(tmp_path, number).unlink()
    os.mkfifo(file_of(tmp_path, 1))
    file_of(tmp_path, 2).symlink_to(tmp_path / "elsewhere")
    for number in (1, 2):
        assert store.read(key(number)) is None
        store.write(key(number), entry(number))
        assert_holds(store, number)
    assert counts["cache_corrupted"] == 1


def test_entry_of_another_user_is_not_served(tmp_path, monkeypatch):
    store, counts = open_store(tmp_path)
    store.write(key(1), entry(1))
    real = os.fstat

    def of_somebody_else(fd):
        status = real(fd)
        return os.stat_result((*status[:4], os.geteuid() + 1, *status[5:]))

    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "fstat", of_somebody_else)
        assert store.read(key(1)) is None
    assert counts["cache_corrupted"] == 1
    assert not file_of(tmp_path, 1).exists()
