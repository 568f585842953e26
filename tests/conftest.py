"""Fixtures that several folders share: real clips, reference cases, built engine directories."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.reference import REPOSITORY, SET_1, SET_2

# Before anything loads torch, here and in every program that a test starts: models in tests are so
# small that two threads of OpenMP spend many times the work on waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Undo what engines of the profile `torch` set for the whole process as they are opened."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def clips() -> dict[str, Path]:
    """Real H.264 clips by name, and the two unusual ones of the reference fixtures."""
    folder = Path(os.environ.get("GROUNDSERVE_CLIPS_DIR", REPOSITORY / ".venv" / "clips"))
    names = ("bikes", "bigbuckbunny", "carphone_pristine")
    found = {name: folder / f"{name}.mp4" for name in names}
    missing = [str(path) for path in found.values() if not path.is_file()]
    if missing:
        pytest.fail(f"{missing[0]} is missing; run: python scripts/fetch_clips.py {folder}")
    return {**found, "rotated": SET_2 / "rotated.mp4", "vfr": SET_2 / "vfr.mp4"}


@pytest.fixture(scope="session")
def engine_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`cpu` and `torch` engine directories of set 1's checkpoint, by profile."""
    from engine_build import build

    root = tmp_path_factory.mktemp("engines")
    for profile in ("cpu", "torch"):
        build(SET_1 / "videoitg-tiny", root / profile, profile=profile)
    return {profile: root / profile for profile in ("cpu", "torch")}
