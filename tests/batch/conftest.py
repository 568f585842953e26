"""What tests of jobs share. A job starts Ray, which takes some seconds, so they are few."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from train.digits.dataset import write_grounding_set

HEAD = """
import os, sys, ray
ray.init(
    address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
    object_store_memory=100 * 1024**2, _temp_dir=sys.argv[1],
)
print("address", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True, scope="session")
def two_cores() -> Iterator[None]:
    """Leave Ray two cores, as on the smallest machine that must do."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(autouse=True, scope="session")
def token() -> Iterator[None]:
    """One for every Ray of this process, which reads it once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield


@pytest.fixture(scope="session")
def digit_videos(tmp_path_factory) -> list[Path]:
    """Six short MovingDigits videos."""
    folder = tmp_path_factory.mktemp("digits")
    write_grounding_set(folder, split="test", seed=3, num_videos=6, num_frames=8)
    return sorted((folder / "videos").iterdir())


@pytest.fixture(scope="session")
def head(two_cores) -> Iterator[str]:
    """The address of a Ray of two cores that others started."""
    # Not pytest's folder, whose name is too long for Ray's sockets.
    with tempfile.TemporaryDirectory(prefix="gs-head-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD, folder],
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stdin is not None
            lines = iter(process.stdout.readline, "")
            yield next(line.split()[1] for line in lines if line.startswith("address"))
            process.stdin.close()


@pytest.fixture
def someones_ray(head, monkeypatch) -> None:
    """The environment says that there is a Ray."""
    monkeypatch.setenv("RAY_ADDRESS", head)
