from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError, MediaError, UnsupportedError
from groundserve.limits import Limits
from python_backend.sources import file_path, open_source, parse_allowed_roots

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


def open_uri(uri: str, roots: tuple[Path, ...]) -> bytes:
    with open_source(None, uri, allowed_roots=roots, limits=LIMITS) as source:
        return os.pread(source.fileno(), 100, 0)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        pytest.param("file:///a/b.mp4", "/a/b.mp4", id="three_slashes"),
        pytest.param("file:/a/b.mp4", "/a/b.mp4", id="one_slash"),
        pytest.param("file://localhost/a/b.mp4", "/a/b.mp4", id="localhost"),
        pytest.param("FILE:///a%20b%C3%A9.mp4", "/a bé.mp4", id="percent_encoded"),
    ],
)
def test_file_path(uri, path):
    assert file_path(uri) == Path(path)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/a/b.mp4",
        "a.mp4",
        "file:a.mp4",
        "file://host/a.mp4",
        "file:///a.mp4?x=1",
        "file:///a.mp4#t=1",
        "file:///a%00.mp4",
        "ftp://host/a.mp4",
        "concat:/a|/b",
        "data:video/mp4,abc",
    ],
)
def test_file_path_refuses_other_forms(uri):
    with pytest.raises(InvalidRequestError, match="must be of the form file:///absolute/path"):
        file_path(uri)


@pytest.mark.parametrize("uri", ["file:///%ff.mp4", "http://[::1/a"])
def test_file_path_refuses_what_is_no_uri(uri):
    with pytest.raises(InvalidRequestError, match="VIDEO_URI is not a URI"):
        file_path(uri)


@pytest.mark.parametrize("uri", ["http://host/a?token=secret", "HTTPS://host/a"])
def test_file_path_fetches_nothing(uri):
    with pytest.raises(UnsupportedError, match="fetches nothing over http") as caught:
        file_path(uri)
    assert "host" not in str(caught.value)


def test_open_source_reads_bytes():
    video = np.frombuffer(b"video", np.uint8)
    with open_source(video, None, allowed_roots=(), limits=LIMITS) as source:
        assert os.pread(source.fileno(), 100, 0) == b"video"


def test_open_source_reads_a_file_below_a_root(root):
    assert open_uri((root / "a b.mp4").as_uri(), (root,)) == b"inside"


def test_open_source_follows_links_that_stay_inside(root):
    (root / "link.mp4").symlink_to("a b.mp4")
    assert open_uri((root / "link.mp4").as_uri(), (root,)) == b"inside"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("../outside.mp4", id="dots"),
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
        open_uri(f"{root.as_uri()}/{name}", (root,))
    assert str(caught.value) == REFUSED


def test_open_source_reads_no_file_without_roots(root):
    with pytest.raises(InvalidRequestError, match=REFUSED):
        open_uri((root / "a b.mp4").as_uri(), ())


def test_open_source_refuses_a_path_that_was_changed_after_the_check(root, monkeypatch):
    monkeypatch.setattr(os, "readlink", lambda path: "/somewhere/else")
    with pytest.raises(InvalidRequestError, match=REFUSED):
        open_uri((root / "a b.mp4").as_uri(), (root,))


def test_open_source_applies_the_limits(root):
    (root / "large.mp4").write_bytes(bytes(9))
    with pytest.raises(MediaError, match="at most 8 bytes"):
        open_uri((root / "large.mp4").as_uri(), (root,))
    with pytest.raises(MediaError, match="at most 8 bytes"):
        open_source(np.zeros(9, np.uint8), None, allowed_roots=(), limits=LIMITS)


@pytest.mark.parametrize(
    ("video", "uri", "count"),
    [(None, None, "neither"), (np.zeros(1, np.uint8), "file:///a.mp4", "both")],
    ids=["neither", "both"],
)
def test_open_source_needs_exactly_one(video, uri, count):
    message = f"give exactly one of VIDEO and VIDEO_URI, got {count}"
    with pytest.raises(InvalidRequestError, match=message):
        open_source(video, uri, allowed_roots=(), limits=LIMITS)


def test_parse_allowed_roots(root):
    link = root.parent / "link"
    link.symlink_to(root)
    assert parse_allowed_roots("") == ()
    assert parse_allowed_roots(f"{link}{os.pathsep}{root.parent}") == (root, root.parent)


@pytest.mark.parametrize("text", ["relative", "/no/such/folder", "/etc/hostname"])
def test_parse_allowed_roots_refuses_what_is_no_folder(text):
    with pytest.raises(InvalidRequestError, match="must be the absolute path of a folder"):
        parse_allowed_roots(text)
