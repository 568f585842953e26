"""The files of videos that a set names; `--media-root` is the folder they are looked for in."""

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


def require_files(
    names: Iterable[str],
    media_root: Path,
    suffixes: Sequence[str] = ("",),
    *,
    what: str = "paths",
    hint: str = "",
) -> dict[str, Path]:
    """Return the file of each name; `what` of the records start from the folder, they are told."""
    names = dict.fromkeys(names)
    found = find_files(names, media_root, suffixes)
    missing = [name for name in names if name not in found]
    if missing:
        raise InvalidRequestError(
            f"{len(missing)} of {len(names)} videos are missing, the first is "
            f"{media_root / missing[0]}; --media-root is the folder that the records' {what} start "
            f"from{hint}"
        )
    return found
