"""What a long command says where nobody looks at a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from types import SimpleNamespace

import pytest

from groundserve.cli import _output
from groundserve.cli import train as train_command
from tests.cli.steps import read_steps, without_steps
from tests.support.reference import SET_1

BUILD = (
    *(sys.executable, "-m", "groundserve.cli.main", "build"),
    *("--checkpoint", str(SET_1 / "videoitg-tiny"), "--profile", "torch"),
)


def test_piped_build_says_each_step_when_it_begins(tmp_path):
    command = [*BUILD, "--out", str(tmp_path / "engines"), "--json"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as program:
        first = program.stderr.readline()
        assert program.poll() is None  # said at once, not when the command ended
        # Not `communicate`, which knows nothing of lines that came with the first one.
        rest, out = program.stderr.read(), program.stdout.read()
    assert program.returncode == 0
    assert json.loads(out)["gate"]["mask_probe"] > 0
    assert out.count("\n") == 1
    steps = read_steps(first + rest)
    assert [step for _, step in steps] == [
        "building",
        "reading the checkpoint",
        "copying the checkpoint",
        "writing the model repository",
        "checking the engines against PyTorch",
    ]
    seconds = [moment for moment, _ in steps]
    assert seconds == sorted(seconds)
    assert without_steps(first + rest) == ""


def test_terminal_has_a_spinner_and_no_lines(tmp_path):
    code = (
        "from groundserve.cli._output import progress\n"
        "with progress('first') as step: step('second')"
    )
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm"}
    finished = subprocess.run([sys.executable, "-c", code], stderr=theirs, env=env, check=True)
    os.close(theirs)
    said = b""
    while select.select([ours], [], [], 1)[0]:
        try:
            said += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert finished.returncode == 0
    assert b"second" in said
    assert b" s] " not in said


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(_output, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    monkeypatch.setattr(_output, "STARTED", now.seconds)
    monkeypatch.setattr(_output.stderr, "quiet", False)  # a command before may have been told so
    return now


def test_a_training_says_when_it_will_end(clock, monkeypatch, capsys):
    """It resumed after step 100; a step takes a minute, and the first one longer."""
    monkeypatch.setattr(train_command, "time", _output.time)
    monkeypatch.setattr(train_command, "_LINE_SECONDS", 0.0)
    with train_command._progress_bar() as (on_step, _):
        clock.seconds += 600
        for step in (101, 102, 103):
            on_step(SimpleNamespace(step=step, num_steps=200, epoch=1, loss=2, num_unreadable=0))
            clock.seconds += 60
    first, *others = read_steps(capsys.readouterr().err)[1:]
    assert first == (600.0, "step 101 of 200, epoch 1.00, loss 2.0000")
    assert [step.partition(" left, ends about ")[0] for _, step in others] == [
        "step 102 of 200, epoch 1.00, loss 2.0000, 1:38:00",
        "step 103 of 200, epoch 1.00, loss 2.0000, 1:37:00",
    ]
