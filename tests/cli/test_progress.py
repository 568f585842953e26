"""What a long command says where nobody looks at a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys

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
