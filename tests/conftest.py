"""Fixtures that several folders share: real clips, reference cases, built engine directories."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from groundserve.engines.profiles import Precision
from tests.support.engines import shared_engines
from tests.support.reference import REPOSITORY, SET_1, SET_2, VTGLLM
from tests.support.tiers import mark_thorough, missing_files

# Before anything loads torch, here and in every program that a test starts: models in tests are so
# small that two threads of OpenMP spend many times the work on waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


_SERVERS = ("triton", "hostile", "families", "page")
_SERVER_FOLDERS = [REPOSITORY / "tests" / name for name in _SERVERS]
_RAY_FOLDER = REPOSITORY / "tests" / "batch"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the second tier; have what shares servers come first, for it takes longest."""
    if missing := missing_files():
        raise pytest.UsageError(f"tests/support/tiers.py names {missing[0]}, which does not exist")
    mark_thorough(items)
    items.sort(key=lambda item: item.path.parent not in _SERVER_FOLDERS)  # stable: files stay whole


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Have processes share tests as `_Groups` says."""
    return _Groups(config, log)


class _Groups(LoadScopeScheduling):
    """Gives what shares servers to one process, and any other file to whoever is free.

    What starts Ray is one group, too: two of them at a time would wait for each other's cores.
    (Groups that are marked, `--dist loadgroup`, do nothing with pytest 9.2 and xdist 3.8.)
    """

    def _split_scope(self, nodeid: str) -> str:
        path = REPOSITORY / nodeid.partition("::")[0]
        if path.parent in _SERVER_FOLDERS:
            return "servers"
        return "ray" if path.parent == _RAY_FOLDER else str(path)


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
def engines_of() -> Callable[..., Path]:
    """Engine directories by checkpoint, profile and precision (the profile's own where left out).

    They are shared with other workers and runs; copy to change.
    """

    @cache
    def opened(checkpoint: Path, profile: str, precision: Precision | None = None) -> Path:
        return shared_engines(checkpoint, profile=profile, precision=precision)

    return opened


@pytest.fixture(scope="session")
def engine_dirs(engines_of) -> dict[str, Path]:
    """`cpu` and `torch` engine directories of set 1's checkpoint, by profile."""
    return {p: engines_of(SET_1 / "videoitg-tiny", p) for p in ("cpu", "torch")}


@pytest.fixture(scope="session")
def vtgllm_engines() -> Callable[[str], Path]:
    """Engine directories of profile `cpu`, by configuration of VTG-LLM; as `engines_of`."""
    from tests.support.vtgllm_cases import parts_of

    return cache(lambda config: shared_engines(VTGLLM, parts=parts_of(config)))


@pytest.fixture(scope="session")
def answer_engines() -> Callable[[str], Path]:
    """Engine directories of profile `cpu`, by model of `tests.support.answer_cases`."""
    from tests.support.answer_cases import CHECKPOINTS, MODELS

    return cache(lambda model: shared_engines(CHECKPOINTS, parts=MODELS[model]))


@pytest.fixture(scope="session")
def grounded_engines() -> Callable[[str], Path]:
    """Engine directories of profile `cpu`, by model of `tests.support.grounded_cases`."""
    from tests.support.grounded_cases import PARTS, WEIGHTS

    return cache(lambda model: shared_engines(WEIGHTS, parts=PARTS[model]))
