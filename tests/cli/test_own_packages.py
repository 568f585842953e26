"""A module of the user's that has the name of one of groundserve's packages."""

from __future__ import annotations

import os
import subprocess
import sys

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
