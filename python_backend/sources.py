"""Where a request's video comes from: its bytes, or a `file:` URI below an allowed root.

Names of files are bytes throughout: a URI encodes bytes, of any encoding or none, and the Python
in a model's process decodes names by a locale that may know ASCII only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, UnavailableError, UnsupportedError
from groundserve.limits import Limits
from groundserve.media import VideoSource

ALLOWED_ROOTS_VARIABLE = "GROUNDSERVE_ALLOWED_ROOTS"
"""Environment variable with the folders below which `file:` URIs may point, joined like PATH."""

_REFUSED = "VIDEO_URI must name a readable file below one of this server's allowed roots"
"""One text for a missing file and a forbidden one, so that nobody can probe for files."""


@dataclass(frozen=True, kw_only=True)
class AllowedRoot:
    """A folder below which URIs may point."""

    path: bytes
    """Where it is: absolute, without symlinks."""
    names: tuple[bytes, ...]
    """What URIs may call it: `path`, and as the operator wrote it."""

    def holds(self, real_path: bytes) -> bool:
        """Whether a path without symlinks lies below the folder."""
        return _below(self.path, real_path) is not None


def parse_allowed_roots(value: bytes) -> tuple[AllowedRoot, ...]:
    """Read the value of `ALLOWED_ROOTS_VARIABLE`; none for an empty one."""
    return tuple(_parse_root(name) for name in value.split(os.fsencode(os.pathsep)) if name)


def open_source(
    video: NDArray[np.uint8] | None,
    video_uri: str | None,
    *,
    allowed_roots: Sequence[AllowedRoot],
    limits: Limits,
) -> VideoSource:
    """Open the one video of a request: uint8 (B,) of an encoded file, or what a URI names."""
    if video is not None and video_uri is None:
        return VideoSource.from_bytes(video, limits=limits)
    if video_uri is not None and video is None:
        return _open_file(file_path(video_uri), allowed_roots, limits)
    count = "neither" if video is None else "both"
    raise InvalidRequestError(f"give exactly one of VIDEO and VIDEO_URI, got {count}")


def file_path(uri: str) -> bytes:
    """Return the absolute path that a `file:` URI names, without looking at the disk."""
    try:
        parts = urlsplit(uri)
        path = unquote_to_bytes(parts.path)
    except ValueError as error:  # also a bad IPv6 address
        raise InvalidRequestError("VIDEO_URI is not a URI") from error
    if parts.scheme in ("http", "https"):
        raise UnsupportedError(
            "VIDEO_URI must be a file: URI; this server fetches nothing over http(s)"
        )
    # "file://host/path" would be another machine's file.
    is_plain = parts.netloc in ("", "localhost") and not parts.query and not parts.fragment
    if parts.scheme != "file" or not is_plain or not path.startswith(b"/") or b"\0" in path:
        raise InvalidRequestError("VIDEO_URI must be of the form file:///absolute/path")
    return path


def _parse_root(name: bytes) -> AllowedRoot:
    shown = repr(os.fsdecode(name))
    if not os.path.isabs(name):
        raise InvalidRequestError(
            f"an allowed root (--allow-root) must be an absolute path, got {shown}"
        )
    if not os.path.isdir(name):
        raise InvalidRequestError(
            f"an allowed root (--allow-root) must be a folder that exists, got {shown}"
        )
    path, plain = os.path.realpath(name), os.path.normpath(name)
    # Dots behind a symlink: the plain name may be another folder's.
    names = (path, plain) if os.path.realpath(plain) == path else (path,)
    return AllowedRoot(path=path, names=names)


def _open_file(path: bytes, allowed_roots: Sequence[AllowedRoot], limits: Limits) -> VideoSource:
    """Open what the name allows, and keep it if it is what the name says.

    The disk is asked only for names below a root, so that nobody learns of others by time or by
    what looking at them does.
    """
    for root in allowed_roots:
        for name in root.names:
            # The name the caller used may be the operator's link; what is opened is below the
            # root's real place.
            if rest := _below(name, path):
                return VideoSource.from_fd(
                    _open_below(os.path.join(root.path, rest), allowed_roots), limits=limits
                )
    raise InvalidRequestError(_REFUSED)


def _below(folder: bytes, path: bytes) -> bytes | None:
    """Return the rest of a path behind a folder; None for others, also for those with dots."""
    # By parts, not by text: /videos2 is not below /videos.
    outer, inner = _parts(folder), _parts(path)
    if b".." in inner or inner[: len(outer)] != outer or len(inner) == len(outer):
        return None
    return b"/".join(inner[len(outer) :])


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def _open_below(path: bytes, allowed_roots: Sequence[AllowedRoot]) -> int:
    """Return a descriptor of a regular file that lies below a root when it is found.

    Finding it (`O_PATH`) opens nothing, so a FIFO does not wait and a device does not notice. What
    was found cannot be exchanged any more: its place and kind are looked at, and it is opened.
    """
    try:
        # Links in `path` are followed, which is why the place where they end is looked at.
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            itself = b"/proc/self/fd/%d" % found
            # The kernel's own name of what was found, without links.
            place = os.readlink(itself)
            is_file = stat.S_ISREG(os.fstat(found).st_mode)
            if is_file and any(root.holds(place) for root in allowed_roots):
                # Through /proc, not through the path: this is the file that was looked at, whatever
                # the path names by now.
                return os.open(itself, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(found)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise UnavailableError(
                "the server has no file descriptor left; try again later"
            ) from None
    raise InvalidRequestError(_REFUSED)
