"""The clock and the ratio of benchmarks/ensemble_overhead.py."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from benchmarks.ensemble_overhead import added_percent, cpu_seconds


def test_cpu_seconds_are_those_of_the_whole_process():
    before = time.process_time()
    read = cpu_seconds(os.getpid())
    assert before <= read <= time.process_time()


def test_cpu_seconds_of_another_process():
    program = "import time; print(time.process_time(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        told = float(process.stdout.readline())
        assert told <= cpu_seconds(process.pid)
        process.communicate("\n")


def test_added_percent_is_the_median_of_pairs_and_not_a_ratio_of_medians():
    pairs = [(100.0, 110.0), (200.0, 210.0), (10.0, 20.0)]
    assert added_percent(pairs) == pytest.approx(10.0)
