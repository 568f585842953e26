from __future__ import annotations

import os
from pathlib import Path

import pytest

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media import VideoSource

SMALL = Limits(max_upload_bytes=4, max_file_bytes=4)


def test_from_bytes_is_sealed(limits: Limits) -> None:
    with VideoSource.from_bytes(b"abc", limits=limits) as source:
        with pytest.raises(PermissionError):
            os.pwrite(source.fileno(), b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(source.fileno(), 1)


def test_from_bytes_rejects_more_than_the_limit() -> None:
    with pytest.raises(MediaError, match=r"at most 4 bytes \(max_upload_bytes\), got 5"):
        VideoSource.from_bytes(b"12345", limits=SMALL)


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
