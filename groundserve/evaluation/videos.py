"""The files of videos that a set names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from groundserve.errors import InvalidRequestError


def find_files(names: Iterable[str], media_root: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Return the file of each name that is there, with the first of the endings that one has."""
    if not media_root.is_dir():
        raise InvalidRequestError(f"--media-root must be a folder, {media_root} is none")
    found = {}
    for name in names:
        places = (media_root / f"{name}{suffix}" for suffix in suffixes)
        place = next((path for path in places if path.is_file()), None)
        if place is not None:
            found[name] = place
    return found
