"""Where a request's video comes from: its bytes, or a `file:` URI below an allowed root."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.limits import Limits
from groundserve.media import VideoSource

ALLOWED_ROOTS_VARIABLE = "GROUNDSERVE_ALLOWED_ROOTS"
"""Environment variable with the folders below which `file:` URIs may point, joined like PATH."""

_REFUSED = "VIDEO_URI must name a readable file below one of this server's allowed roots"
"""One text for a missing file and a forbidden one, so that nobody can probe for files."""


def parse_allowed_roots(text: str) -> tuple[Path, ...]:
    """Read the value of `ALLOWED_ROOTS_VARIABLE`.

    Returns:
        Absolute folders without symlinks; none for an empty text.

    Raises:
        InvalidRequestError: An entry is not an absolute path of an existing folder.
    """
    roots = [Path(part) for part in text.split(os.pathsep) if part]
    for root in roots:
        if not root.is_absolute() or not root.is_dir():
            raise InvalidRequestError(
                "an allowed root (--allow-root) must be the absolute path of a folder, got "
                f"{str(root)!r}"
            )
    return tuple(root.resolve() for root in roots)


def open_source(
    video: NDArray[np.uint8] | None,
    video_uri: str | None,
    *,
    allowed_roots: Sequence[Path],
    limits: Limits,
) -> VideoSource:
    """Open the one video of a request.

    Args:
        video: uint8 (B,), bytes of an encoded file.
        video_uri: Instead of `video`.
        allowed_roots: As `parse_allowed_roots` returns them.
        limits: Ceilings on its size.

    Raises:
        InvalidRequestError: Both or neither are given, or the URI names nothing that may be read.
        UnsupportedError: The URI is an `http:` or `https:` one.
    """
    if video is not None and video_uri is None:
        return VideoSource.from_bytes(video, limits=limits)
    if video_uri is not None and video is None:
        return _open_file(file_path(video_uri), allowed_roots, limits)
    count = "neither" if video is None else "both"
    raise InvalidRequestError(f"give exactly one of VIDEO and VIDEO_URI, got {count}")


def file_path(uri: str) -> Path:
    """Return the absolute path that a `file:` URI names, without looking at the disk.

    Raises:
        InvalidRequestError: It is no `file:` URI of an absolute path on this host.
        UnsupportedError: It is an `http:` or `https:` URI.
    """
    try:
        parts = urlsplit(uri)
        path = unquote(parts.path, errors="strict")
    except ValueError as error:  # also a bad IPv6 address, also bytes that are not UTF-8
        raise InvalidRequestError("VIDEO_URI is not a URI") from error
    if parts.scheme in ("http", "https"):
        raise UnsupportedError(
            "VIDEO_URI must be a file: URI; this server fetches nothing over http(s)"
        )
    is_plain = parts.netloc in ("", "localhost") and not parts.query and not parts.fragment
    if parts.scheme != "file" or not is_plain or not path.startswith("/") or "\0" in path:
        raise InvalidRequestError("VIDEO_URI must be of the form file:///absolute/path")
    return Path(path)


def _open_file(path: Path, allowed_roots: Sequence[Path], limits: Limits) -> VideoSource:
    real_path = _resolve(path)
    is_allowed = any(real_path.is_relative_to(root) for root in allowed_roots)
    if not is_allowed or not os.path.isfile(real_path) or not os.access(real_path, os.R_OK):
        raise InvalidRequestError(_REFUSED)
    source = VideoSource.from_path(real_path, limits=limits)
    # A folder on the way may have become a symlink since: what counts is the file that was opened.
    if os.readlink(f"/proc/self/fd/{source.fileno()}") != str(real_path):
        source.close()
        raise InvalidRequestError(_REFUSED)
    return source


def _resolve(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of symlinks
        raise InvalidRequestError(_REFUSED) from error
