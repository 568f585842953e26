"""A module of the user's that has the name of one of groundserve's packages."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

import pytest

from groundserve import own_packages
from tests.cli.command import MP4, run_cli
from tests.cli.steps import assert_one_error
from tests.support.reference import REPOSITORY


def test_a_train_py_where_the_command_starts_is_named_before_it_runs(tmp_path):
    (tmp_path / "train.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "run.toml").touch()
    said = subprocess.run(
        [sys.executable, "-m", "groundserve", "train", "grounding", "--config", "run.toml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert said.returncode == 1
    assert_one_error(said.stderr, f"{tmp_path / 'train.py'} hides groundserve's own package train;")


def test_a_python_backend_py_beside_the_users_script_is_named_before_it_runs(tmp_path):
    (tmp_path / "python_backend.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "script.py").write_text("from groundserve import Pipeline")
    said = subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    named = f"{tmp_path / 'python_backend.py'} hides groundserve's own package python_backend;"
    assert f"GroundserveError: {named}" in said.stderr


@pytest.mark.parametrize(
    ("command", "package"),
    [
        (["train", "video", "--config", "run.toml"], "train"),
        (["eval", "--num-videos", "2"], "train"),
        (["build", "--checkpoint", "digits", "--out", "engines"], "engine_build"),
        (["score", "a.mp4", "--query", "What?"], "python_backend"),
        (["serve", "--engines", "engines"], "python_backend"),
    ],
)
def test_every_command_that_needs_a_package_of_ours_looks(tmp_path, monkeypatch, command, package):
    (tmp_path / "run.toml").write_text("not looked into")
    (tmp_path / "a.mp4").write_bytes(MP4)
    foreign = ModuleSpec(package, None, origin=str(tmp_path / f"{package}.py"))
    monkeypatch.setattr(
        own_packages, "find_spec", lambda name: foreign if name == package else find_spec(name)
    )
    said = run_cli(*command, cwd=tmp_path, env={"XDG_CACHE_HOME": str(tmp_path)})
    assert said.code == 1, said.stderr
    assert_one_error(said.stderr, f"hides groundserve's own package {package}; rename it")
    assert not (tmp_path / "out").exists()
