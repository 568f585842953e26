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


@pytest.fixture
def someones_ray(two_cores, monkeypatch) -> Iterator[None]:
    """A Ray of two cores that others started, where the environment says that it is."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Not pytest's folder, whose name is too long for Ray's sockets.
    with tempfile.TemporaryDirectory(prefix="gs-head-", ignore_cleanup_errors=True) as folder:
        head = subprocess.Popen(
            [sys.executable, "-c", HEAD, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with head:
            assert head.stdout is not None
            assert head.stdin is not None
            lines = iter(head.stdout.readline, "")
            address = next(line.split()[1] for line in lines if line.startswith("address"))
            monkeypatch.setenv("RAY_ADDRESS", address)
            yield
            head.stdin.close()
