import subprocess
import sys

import pytest

# `PyDLL` keeps the interpreter's lock through the call, so no thread of Python runs meanwhile.
PROGRAM = """
import sys, time, ctypes
from groundserve.batch import watchdog
watchdog._NOTE_SECONDS = 0.1
def tell():
    print("told", flush=True)
    {tell}
with watchdog.watched({seconds}, tell):
    {block}
print("left", flush=True)
time.sleep(0.5)
"""
SLEEP = "time.sleep(60)"
SLEEP_WITH_THE_LOCK = "ctypes.PyDLL(None).sleep(60)"


def run(block: str, *, seconds: float = 0.2, tell: str = "pass") -> subprocess.CompletedProcess:
    program = PROGRAM.format(seconds=seconds, block=block, tell=tell)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("tell", ["pass", SLEEP], ids=["told", "telling hangs, too"])
def test_a_hang_ends_the_process_after_word_is_left(tell):
    ended = run(SLEEP, tell=tell)
    assert (ended.returncode, ended.stdout) == (-9, "told\n")


def test_a_hang_that_stops_all_threads_ends_it_untold():
    ended = run(SLEEP_WITH_THE_LOCK)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert 'File "<string>"' in ended.stderr  # where it hung


def test_who_is_in_time_goes_on():
    ended = run("pass", seconds=0.2)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "left\n", "")
