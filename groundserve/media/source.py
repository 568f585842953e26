"""A video to read: an owned, read-only file descriptor that no caller's path leads to any more."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from groundserve.arguments import open_video
from groundserve.errors import MediaError, UnavailableError
from groundserve.limits import MIB, Limits
from groundserve.runtime.closing import Closing

# Nobody can change the bytes any more, neither between hashing and reading nor during it.
_ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class VideoSource(Closing):
    """An open video; it closes with the `with` block or `close`.

    The descriptor is what travels to the workers, so they never open a path that a caller named,
    and a file replaced after the check is not the file that is read.
    """

    def __init__(self, fd: int, *, identity: str | None = None) -> None:
        """Own the descriptor of a regular file or of sealed memory.

        Without an identity it is the SHA-256 of the bytes, computed when it is asked for.
        """
        self._fd = fd
        self._given_identity = identity
        self.size_bytes = os.fstat(fd).st_size

    @classmethod
    def from_bytes(
        cls, data: bytes | memoryview | NDArray[np.uint8], *, limits: Limits
    ) -> VideoSource:
        """Copy an encoded file into sealed anonymous memory; an array must be C-contiguous."""
        view = (data.data if isinstance(data, np.ndarray) else memoryview(data)).cast("B")
        _check_size(view.nbytes, "max_upload_bytes", limits.max_upload_bytes)
        try:
            return cls(sealed_copy(view))
        except OSError as error:
            raise UnavailableError(
                f"the upload cannot be kept: {os.strerror(error.errno or 0)}; try again later"
            ) from error

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], *, limits: Limits) -> VideoSource:
        """Open a regular file, following links; whether the caller may read it has been decided."""
        return cls._from_file(open_video(path), f"the video {os.fspath(path)!r}", limits)

    @classmethod
    def from_fd(cls, fd: int, *, limits: Limits) -> VideoSource:
        """Own the descriptor of a regular file; where this raises, it is closed."""
        return cls._from_file(fd, "the video", limits)

    @classmethod
    def _from_file(cls, fd: int, name: str, limits: Limits) -> VideoSource:
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise MediaError(f"{name} is not a regular file")
            _check_size(status.st_size, "max_file_bytes", limits.max_file_bytes)
            return cls(fd, identity=file_identity(status))
        except BaseException:
            os.close(fd)
            raise

    @cached_property
    def identity(self) -> str:
        """What a cache may take for the content.

        "sha256:<hex>" of uploaded bytes; "file:<device>:<inode>:<size>:<mtime_ns>:<ctime_ns>" of a
        file as it was opened.
        """
        return self._given_identity or f"sha256:{_sha256(self._fd)}"

    def fileno(self) -> int:
        """Return the descriptor, which stays this object's; ValueError once closed."""
        if self._fd < 0:
            raise ValueError("the video source is closed")
        return self._fd

    def close(self) -> None:
        """Give the descriptor back; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def sealed_copy(view: memoryview) -> int:
    """Return a descriptor of anonymous memory that holds these bytes for good."""
    fd = os.memfd_create("groundserve", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        while view:
            # Linux writes 2 GiB at most in one call.
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_size(size_bytes: int, limit_name: str, limit_bytes: int) -> None:
    if size_bytes == 0:
        raise MediaError("the video is empty (0 bytes)")
    if size_bytes > limit_bytes:
        raise MediaError(
            f"the video must be at most {limit_bytes} bytes ({limit_name}), got {size_bytes}"
        )


def file_identity(status: os.stat_result) -> str:
    """Return what tells a file from any other, and from itself before it was written to."""
    parts = (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        # Whoever may write can set mtime back, but not ctime.
        status.st_ctime_ns,
    )
    return ":".join(["file", *map(str, parts)])


def _sha256(fd: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while block := os.pread(fd, MIB, offset):
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()
