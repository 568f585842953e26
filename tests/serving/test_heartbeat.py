from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from groundserve.heartbeat import HEARTBEAT_SECONDS, read_heartbeat

PROGRAM = """
import ctypes, sys
from groundserve.heartbeat import start_heartbeat
print("loading", flush=True)
sys.stdin.readline()
start_heartbeat()
print("ready", flush=True)
sys.stdin.readline()
ctypes.CDLL(None).sleep(600)
"""
WAIT_SECONDS = 30.0


@pytest.fixture
def start():
    """Programs that load, are ready, and then do as told."""
    started = []

    def run() -> subprocess.Popen[str]:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(program)
        assert program.stdout.readline() == "loading\n"
        return program

    yield run
    for program in started:
        program.kill()
        program.wait()
        program.stdin.close()
        program.stdout.close()


def go_on(program: subprocess.Popen[str]) -> None:
    program.stdin.write("\n")
    program.stdin.flush()


def number_of_beats(pid: int, seconds: float) -> int:
    """How many differing names follow each other."""
    seen, give_up_at = [], time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        beat = read_heartbeat(pid)
        if beat is not None and beat not in seen[-1:]:
            seen.append(beat)
        time.sleep(0.05)
    return len(seen)


def wait_for_beats(pid: int) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while read_heartbeat(pid) is None:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_process_that_loads_has_none(start):
    assert read_heartbeat(start().pid) is None


def test_long_computation_does_not_silence_it(start):
    program = start()
    go_on(program)
    wait_for_beats(program.pid)
    go_on(program)
    assert number_of_beats(program.pid, 4 * HEARTBEAT_SECONDS) >= 3


def test_process_ends_with_its_parent_amid_its_work():
    program = "import time, groundserve.heartbeat as h; h.start_heartbeat(); time.sleep(600)"
    shell = '"$0" -c "$1" & echo $!; wait'
    with subprocess.Popen(
        ["sh", "-c", shell, sys.executable, program], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        while read_heartbeat(child.pid) is None:
            time.sleep(0.05)
        parent.kill()
        child.wait(WAIT_SECONDS)
