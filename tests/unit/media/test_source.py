from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media import VideoSource

SMALL = Limits(max_upload_bytes=4, max_file_bytes=4)


@pytest.mark.parametrize("data", [b"abc", memoryview(b"abc"), np.frombuffer(b"abc", np.uint8)])
def test_from_bytes(data: bytes, limits: Limits) -> None:
    with VideoSource.from_bytes(data, limits=limits) as source:
        assert os.pread(source.fileno(), 10, 0) == b"abc"
        assert source.size_bytes == 3
        assert source.identity == "sha256:" + hashlib.sha256(b"abc").hexdigest()


def test_from_bytes_is_sealed(limits: Limits) -> None:
    with VideoSource.from_bytes(b"abc", limits=limits) as source:
        with pytest.raises(PermissionError):
            os.pwrite(source.fileno(), b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(source.fileno(), 1)


def test_from_bytes_rejects_empty(limits: Limits) -> None:
    with pytest.raises(MediaError, match=r"the video is empty \(0 bytes\)"):
        VideoSource.from_bytes(b"", limits=limits)


def test_from_bytes_rejects_more_than_the_limit() -> None:
    with pytest.raises(MediaError, match=r"at most 4 bytes \(max_upload_bytes\), got 5"):
        VideoSource.from_bytes(b"12345", limits=SMALL)


def test_from_path(tmp_path: Path, limits: Limits) -> None:
    path = tmp_path / "video"
    path.write_bytes(b"abc")
    status = path.stat()
    with VideoSource.from_path(path, limits=limits) as source:
        assert os.pread(source.fileno(), 10, 0) == b"abc"
        assert source.identity == (
            f"file:{status.st_dev}:{status.st_ino}:3:{status.st_mtime_ns}:{status.st_ctime_ns}"
        )


def test_identity_changes_with_the_file(tmp_path: Path, limits: Limits) -> None:
    identities = set()
    for text in (b"abc", b"abd"):
        (tmp_path / "new").write_bytes(text)
        (tmp_path / "new").rename(tmp_path / "video")
        with VideoSource.from_path(tmp_path / "video", limits=limits) as source:
            identities.add(source.identity)
    assert len(identities) == 2


def test_from_path_rejects_more_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "video"
    path.write_bytes(b"12345")
    with pytest.raises(MediaError, match=r"at most 4 bytes \(max_file_bytes\), got 5"):
        VideoSource.from_path(path, limits=SMALL)


def test_from_path_rejects_what_is_not_a_file(tmp_path: Path, limits: Limits) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path("/dev/zero")):
        with pytest.raises(MediaError, match="is not a regular file"):
            VideoSource.from_path(path, limits=limits)


def test_from_path_names_the_path_as_it_was_given(
    tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MediaError) as caught:
        VideoSource.from_path("missing.mp4", limits=limits)
    assert str(caught.value) == "cannot open the video 'missing.mp4': No such file or directory"


def test_from_path_rejects_a_name_no_file_can_have(limits: Limits) -> None:
    with pytest.raises(MediaError, match="bad name"):
        VideoSource.from_path("a\0b", limits=limits)


def test_close_gives_the_descriptor_back(limits: Limits) -> None:
    source = VideoSource.from_bytes(b"abc", limits=limits)
    fd = source.fileno()
    source.close()
    source.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(ValueError, match="the video source is closed"):
        source.fileno()
