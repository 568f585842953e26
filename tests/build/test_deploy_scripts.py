"""The scripts that the image runs, on real libraries."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import pytriton

from tests.support.reference import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
SERVER = Path(pytriton.__file__).parent / "tritonserver"
LIBRARIES = SERVER.parents[1] / "nvidia_pytriton.libs"
"""What auditwheel put beside the wheel's server: its libraries, under names with a hash."""


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_valid(shell, script):
    checked = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert os.access(script, os.X_OK)


def check_libraries(*paths: Path, search: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    if search is not None:
        environment["LD_LIBRARY_PATH"] = str(search)
    return subprocess.run(
        [DEPLOY / "check_libraries.sh", *paths],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def backend() -> Path:
    """Triton's own backend for Python, which finds its libraries by a path relative to itself."""
    return SERVER / "backends" / "python" / "libtriton_python.so"


@pytest.fixture
def moved_backend(backend, tmp_path) -> Path:
    """The same library where that path leads nowhere."""
    moved = tmp_path / "moved" / backend.name
    moved.parent.mkdir()
    moved.write_bytes(backend.read_bytes())
    return moved


def need_instead(library: Path, pattern: bytes, name: bytes) -> None:
    """Let a library need another one than that of a longer name."""
    data = library.read_bytes()
    (needed,) = set(re.findall(pattern, data))
    library.write_bytes(data.replace(needed, name.ljust(len(needed), b"\0")))


def test_backend_that_finds_everything_passes(backend):
    run = check_libraries(backend)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_backend_without_its_libraries_does_not(moved_backend):
    run = check_libraries(moved_backend)
    assert run.returncode == 1
    assert f"{moved_backend} would not load:" in run.stderr
    for name in ("libtritonserver", "libarchive", "libcudart"):
        assert re.search(rf"^\s*{name}-\w+\.so\S* => not found$", run.stderr, re.MULTILINE)


@pytest.mark.parametrize("name", [b"libcuda.so.1", b"libnvidia-ml.so.1", b"libnvcuvid.so.1"])
def test_the_drivers_libraries_may_be_missing(name, moved_backend):
    """The container runtime brings them, after the build."""
    need_instead(moved_backend, rb"libarchive-\w+\.so[.0-9]*", name)
    run = check_libraries(moved_backend, search=LIBRARIES)
    assert (run.returncode, run.stderr) == (0, "")


def test_functions_that_the_server_does_not_have_are_found(moved_backend):
    """As where the backend is newer than the server: nothing is missing but what it calls."""
    need_instead(moved_backend, rb"libtritonserver-\w+\.so", b"libcuda.so.1")
    run = check_libraries(moved_backend, search=LIBRARIES)
    assert run.returncode == 1
    assert "undefined symbol: TRITONBACKEND_" in run.stderr
    assert "not found" not in run.stderr
