from __future__ import annotations

import itertools
import os
import resource
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from groundserve.errors import (
    InvalidRequestError,
    UnavailableError,
)
from groundserve.limits import Limits
from python_backend.sources import AllowedRoot, open_source, parse_allowed_roots

LIMITS = Limits(max_upload_bytes=8, max_file_bytes=8)
REFUSED = "VIDEO_URI must name a readable file below one of this server's allowed roots"


@pytest.fixture
def root(tmp_path) -> Path:
    """An allowed folder with a video; a folder beside it has another."""
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "a b.mp4").write_bytes(b"inside")
    (tmp_path / "outside.mp4").write_bytes(b"outside")
    (tmp_path / "allowed-too.mp4").write_bytes(b"beside")
    return allowed


def open_uri(uri: str, *roots: Path) -> bytes:
    allowed_roots = parse_allowed_roots(os.pathsep.join(map(str, roots)).encode())
    with open_source(None, uri, allowed_roots=allowed_roots, limits=LIMITS) as source:
        return os.pread(source.fileno(), 100, 0)


def test_open_source_follows_links_that_stay_inside(root):
    (root / "link.mp4").symlink_to("a b.mp4")
    assert open_uri((root / "link.mp4").as_uri(), root) == b"inside"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("../outside.mp4", id="dots"),
        pytest.param("../allowed/a%20b.mp4", id="dots_that_come_back"),
        pytest.param("%2e%2e/outside.mp4", id="encoded_dots"),
        pytest.param("link.mp4", id="link"),
        pytest.param("folder/outside.mp4", id="link_on_the_way"),
        pytest.param("loop", id="loop"),
        pytest.param("../allowed-too.mp4", id="same_prefix"),
        pytest.param("missing.mp4", id="missing"),
        pytest.param("", id="the_root_itself"),
        pytest.param("fifo", id="fifo"),
        pytest.param("x" * 5000, id="name_too_long"),
    ],
)
def test_open_source_refuses_with_one_text(root, name):
    (root / "link.mp4").symlink_to("../outside.mp4")
    (root / "folder").symlink_to("..")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    with pytest.raises(InvalidRequestError) as caught:
        open_uri(f"{root.as_uri()}/{name}", root)
    assert str(caught.value) == REFUSED


def test_open_source_reads_no_file_without_roots(root):
    with pytest.raises(InvalidRequestError, match=REFUSED):
        open_uri((root / "a b.mp4").as_uri())


@pytest.mark.parametrize(
    "name", ["outside.mp4", "allowed-too.mp4", "allowed/../outside.mp4", "allowed/x/../a%20b.mp4"]
)
def test_open_source_asks_the_disk_only_for_names_below_a_root(root, name, monkeypatch):
    roots = parse_allowed_roots(os.fsencode(root))
    uri = f"{root.parent.as_uri()}/{name}"
    for function in ("open", "stat", "lstat", "readlink", "access"):
        monkeypatch.setattr(os, function, lambda *_, **__: pytest.fail("the disk was asked"))
    with pytest.raises(InvalidRequestError) as caught:
        open_source(None, uri, allowed_roots=roots, limits=LIMITS)
    monkeypatch.undo()
    assert str(caught.value) == REFUSED


def test_open_source_takes_a_root_by_the_name_that_the_operator_wrote(root):
    link = root.parent / "link"
    link.symlink_to(root)
    for given in (link, root):
        assert open_uri(f"{given.as_uri()}/a%20b.mp4", link) == b"inside"
    with pytest.raises(InvalidRequestError, match=REFUSED):
        open_uri(f"{link.as_uri()}/a%20b.mp4", root)


def test_open_source_follows_links_from_one_root_to_another(root):
    other = root.parent / "other"
    other.mkdir()
    (other / "link.mp4").symlink_to(root / "a b.mp4")
    assert open_uri(f"{other.as_uri()}/link.mp4", other, root) == b"inside"
    with pytest.raises(InvalidRequestError, match=REFUSED):
        open_uri(f"{other.as_uri()}/link.mp4", other)


@pytest.mark.parametrize("is_upload", [True, False], ids=["upload", "uri"])
def test_open_source_without_descriptors_is_unavailable(root, is_upload):
    roots = parse_allowed_roots(os.fsencode(root))
    video = np.zeros(1, np.uint8) if is_upload else None
    uri = None if is_upload else (root / "a b.mp4").as_uri()
    limits_before = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_before = os.listdir("/proc/self/fd")
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits_before[1]))
    try:
        with pytest.raises(UnavailableError, match="try again later"):
            open_source(video, uri, allowed_roots=roots, limits=LIMITS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits_before)
    assert os.listdir("/proc/self/fd") == open_before


def test_open_source_gives_a_file_of_a_root_or_the_one_text_while_names_change(root):
    """A file, a link that leads out and a folder take turns at a name, as does the folder of it."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "video").write_bytes(b"outside")
    folder, new = root / "folder", root / "new"
    folder.mkdir()
    target = folder / "video"
    steps = (
        lambda: (new.write_bytes(b"inside"), new.rename(target)),
        lambda: (new.symlink_to(outside / "video"), new.rename(target)),
        lambda: (target.unlink(), target.mkdir()),
        lambda: (target.rmdir(), folder.rmdir(), folder.symlink_to(outside)),
        lambda: (folder.unlink(), folder.mkdir()),
    )
    ended = threading.Event()

    def change() -> None:
        for step in itertools.cycle(steps):
            step()
            if ended.is_set():
                return

    outcomes = Counter[bytes | str]()
    thread = threading.Thread(target=change)
    thread.start()
    try:
        while outcomes.total() < 500 or not outcomes[b"inside"]:
            try:
                outcomes[open_uri(target.as_uri(), root)] += 1
            except InvalidRequestError as error:
                outcomes[str(error)] += 1
    finally:
        ended.set()
        thread.join()
    assert set(outcomes) == {b"inside", REFUSED}


def test_parse_allowed_roots(root):
    link = root.parent / "link"
    link.symlink_to(root)
    path, named = os.fsencode(root), os.fsencode(link)
    assert parse_allowed_roots(b"") == ()
    first, second = parse_allowed_roots(named + b":" + os.fsencode(root.parent) + b"/./")
    assert first == AllowedRoot(path=path, names=(path, named))
    assert {*second.names} == {second.path} == {os.fsencode(root.parent)}


def test_parse_allowed_roots_takes_dots_only_where_they_mean_what_they_say(root):
    (root / "inner").mkdir()
    link = root.parent / "link"
    link.symlink_to(root / "inner")
    for written in (root / "inner" / "..", link / ".."):
        (parsed,) = parse_allowed_roots(os.fsencode(written))
        assert {*parsed.names} == {parsed.path} == {os.fsencode(root)}
