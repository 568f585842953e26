from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from groundserve.errors import EngineMismatchError, MissingExtraError
from groundserve.serving.installation import (
    TritonInstallation,
    find_installation,
    server_environment,
    wheel_installation,
)

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def make_wheel(site_packages: Path, version: str = VERSION) -> Path:
    """An empty copy of the wheel's layout; returns the folder of the package."""
    package = site_packages / "pytriton"
    for name in (
        "bin/tritonserver",
        "backends/python/libtriton_python.so",
        "backends/python/triton_python_backend_utils.py",
        f"python_backend_stubs/{version}/triton_python_backend_stub",
    ):
        file = package / "tritonserver" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return package


def test_server_on_path_comes_first(tmp_path, monkeypatch):
    server = tmp_path / "tritonserver"
    server.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_installation() == TritonInstallation(executable=server)


def test_missing_server_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"nvidia-pytriton is not installed.*\[serve\]"):
        find_installation()


def test_wheel_brings_this_interpreters_stub(tmp_path):
    installation = wheel_installation(make_wheel(tmp_path))
    linked = installation.link_backends(tmp_path)
    assert linked == tmp_path
    assert sorted(path.name for path in (tmp_path / "python").iterdir()) == [
        "libtriton_python.so",
        "triton_python_backend_stub",
        "triton_python_backend_utils.py",
    ]
    assert all(path.is_file() for path in (tmp_path / "python").iterdir())
    assert tmp_path / "nvidia_pytriton.libs" in installation.library_dirs


def test_wheel_without_this_interpreters_stub_is_refused(tmp_path):
    with pytest.raises(EngineMismatchError, match=f"has no backend for Python {VERSION}"):
        wheel_installation(make_wheel(tmp_path, "2.7"))


def test_numpy_2_is_refused_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: SimpleNamespace(origin="/pytriton/__init__.py")
    )
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.3.0")
    with pytest.raises(EngineMismatchError, match=r"needs numpy < 2, got 2\.3\.0.*pip install"):
        find_installation()


def test_environment_puts_this_interpreter_first(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    installation = TritonInstallation(
        executable=tmp_path / "tritonserver", library_dirs=(Path("/a"), Path("/b"))
    )
    environment = server_environment(installation, {"EXTRA": "1"})
    assert environment["PATH"] == os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin"])
    assert environment["LD_LIBRARY_PATH"] == os.pathsep.join(["/a", "/b", "/opt/lib"])
    assert environment["EXTRA"] == "1"
