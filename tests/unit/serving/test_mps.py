from __future__ import annotations

import os
import subprocess
import sys

import pytest

from groundserve.cli import doctor_checks
from groundserve.serving import mps
from groundserve.serving.mps import PIPE_DIR_VARIABLE, mps_daemon_pid

PID_FILE = "nvidia-cuda-mps-control.pid"


@pytest.fixture
def environment(tmp_path):
    return {PIPE_DIR_VARIABLE: str(tmp_path)}


def test_daemon_that_lives_is_found(tmp_path, environment):
    (tmp_path / PID_FILE).write_text(f"{os.getpid()}\n")
    assert mps_daemon_pid(environment) == os.getpid()


def test_daemon_that_ended_is_not(tmp_path, environment):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / PID_FILE).write_text(str(ended.pid))
    assert mps_daemon_pid(environment) is None


@pytest.mark.parametrize("text", ["", "self", "-1", "../1", "1 2", "\u0661"])
def test_file_without_a_process_id_names_none(text, tmp_path, environment):
    (tmp_path / PID_FILE).write_text(text, "utf-8")
    assert mps_daemon_pid(environment) is None


def test_folder_without_a_daemon(environment):
    assert mps_daemon_pid(environment) is None


@pytest.mark.parametrize("environment", [{}, {PIPE_DIR_VARIABLE: ""}])
def test_default_folder_is_cudas(environment, tmp_path, monkeypatch):
    assert mps.DEFAULT_PIPE_DIR == "/tmp/nvidia-mps"
    monkeypatch.setattr(mps, "DEFAULT_PIPE_DIR", str(tmp_path))
    (tmp_path / PID_FILE).write_text(str(os.getpid()))
    assert mps_daemon_pid(environment) == os.getpid()


@pytest.mark.parametrize(("pid", "detail"), [(7, "in use, control daemon 7"), (None, "not in use")])
def test_doctor_says_whether_it_is_in_use(pid, detail, monkeypatch):
    monkeypatch.setattr(mps, "mps_daemon_pid", lambda: pid)
    assert doctor_checks._mps_row() == ("MPS", "ok", detail)
