"""Where videos, manifests and runs may be: paths, and URLs of fsspec."""

from __future__ import annotations

import os
from typing import Any

from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.strict_json import shown

LOCAL_PROTOCOLS = ("file", "local")
REMOTE_PROTOCOLS = ("memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs")
"""Schemes of fsspec that a place may have."""


def split_place(place: str) -> tuple[Any | None, str]:
    """Return the fsspec file system of a place, None for this machine's, and the path in it.

    Raises:
        InvalidRequestError: The URL's scheme is unknown, or its package is not installed.
        MissingExtraError: fsspec is not installed.
    """
    scheme = check_scheme(place)
    if scheme is None:
        return None, os.path.abspath(place)
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("batch", "fsspec") from error
    if scheme in LOCAL_PROTOCOLS:
        _, path = fsspec.core.url_to_fs(place)
        return None, os.path.abspath(path)
    try:
        return fsspec.core.url_to_fs(place)  # type: ignore[no-any-return]
    except ImportError as error:  # its message names the package
        raise InvalidRequestError(f"cannot reach {scheme}:// places: {error}") from error


def check_scheme(place: str) -> str | None:
    """Return the scheme of a URL whose files can be read; None for a path.

    Raises:
        InvalidRequestError: It is another one.
    """
    scheme = scheme_of(place)
    if scheme not in (None, *LOCAL_PROTOCOLS, *REMOTE_PROTOCOLS):
        without_query = place.partition("?")[0]  # it may hold a secret
        raise InvalidRequestError(
            f"the place {shown(without_query)} must be a path or a URL of file, "
            f"{', '.join(REMOTE_PROTOCOLS)}; download what is elsewhere first"
        )
    return scheme


def scheme_of(place: str) -> str | None:
    """Return the scheme of a URL such as s3://bucket/key; None for a path."""
    scheme, separator, _ = place.partition("://")
    return scheme if separator and scheme.replace("+", "").isalnum() else None
