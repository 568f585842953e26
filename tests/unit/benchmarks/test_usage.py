"""The clocks of benchmarks/_usage.py."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from benchmarks._usage import cpu_seconds, measured, tree_cpu_seconds


def test_cpu_seconds_are_those_of_the_whole_process():
    ended = sum(psutil.Process().cpu_times()[2:4])  # user and system of children
    before = time.process_time()
    read = cpu_seconds(psutil.Process())
    assert before <= read - ended <= time.process_time()


def test_cpu_seconds_of_another_process():
    program = "import time; print(time.process_time(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        told = float(process.stdout.readline())
        assert told <= cpu_seconds(psutil.Process(process.pid))
        process.communicate("\n")


def test_a_process_that_ended_is_nowhere():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        seen = psutil.Process(process.pid)
    with pytest.raises(psutil.NoSuchProcess):
        cpu_seconds(seen)


def test_work_below_a_hundredth_of_a_second_is_seen():
    with measured() as meter:
        until = time.process_time() + 0.002
        while time.process_time() < until:
            pass
    assert meter.usage.cpu_seconds >= 0.002
    assert tree_cpu_seconds(os.getpid()) >= meter.usage.cpu_seconds
