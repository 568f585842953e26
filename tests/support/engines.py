"""Engine directories that tests share: built once for a state of the sources, kept between runs."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from groundserve.engines.profiles import Precision
from tests.support.reference import REPOSITORY

_STORE = REPOSITORY / ".engines"
_KEPT_STATES = 3
_SOURCES = ("engine_build", "groundserve", "python_backend", "constraints.txt")


def shared_engines(
    checkpoint: Path,
    *,
    profile: str = "cpu",
    precision: Precision | None = None,
    parts: Mapping[str, Sequence[Path | str]] | None = None,
) -> Path:
    """An engine directory that workers and runs share: copy it to change it.

    Arguments are those of `build`; parts lie in the checkpoint's folder.
    """
    from engine_build import build

    asked = repr((str(checkpoint), _content(checkpoint), profile, precision, parts))
    key = hashlib.sha256(asked.encode()).hexdigest()[:16]
    place = _store() / f"{checkpoint.name}-{profile}-{key}"
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other worker may be building it
        if not place.is_dir():
            build(checkpoint, place, profile=profile, precision=precision, parts=parts)
    return place


@cache
def _store() -> Path:
    """The folder of this state of the sources; those of older states are removed."""
    store = _STORE / "".join(_content(REPOSITORY / name)[:4] for name in _SOURCES)
    if not store.is_dir():
        others = sorted(_STORE.glob("*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in others[_KEPT_STATES - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)
        store.mkdir(parents=True, exist_ok=True)
    return store


def _content(place: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if file.is_file() and file.suffix != ".pyc":
            digest.update(str(file.relative_to(place)).encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
