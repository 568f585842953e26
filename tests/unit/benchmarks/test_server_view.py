"""Processor time and statistics of a server, seen from outside."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from benchmarks._server_view import _spans, cpu_seconds_by_kind, peak_memory

BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_processor_time_of_children_that_ended_is_counted():
    before = sum(cpu_seconds_by_kind(os.getpid()).values())
    subprocess.run([sys.executable, "-c", BURN], check=True)
    assert (
        sum(cpu_seconds_by_kind(os.getpid()).values()) - before >= 0.3 - 0.02
    )  # ticks of 10 ms, twice


def test_processor_time_of_children_that_live_is_counted():
    with subprocess.Popen(
        [sys.executable, "-c", f"{BURN}\nprint('done', flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        seconds = sum(cpu_seconds_by_kind(child.pid).values())
        child.communicate(b"\n")
    assert seconds >= 0.3 - 0.01


def test_peak_memory_is_no_less_than_what_this_process_had():
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = peak_memory(os.getpid())
    assert found["sum_mib"] >= found["largest_process_mib"] >= own - 1


def test_statistics_of_both_protocols():
    http = {"success": {"count": 2, "ns": 30}, "queue": {"count": 2, "ns": 10}}
    grpc = {"success": {"count": "2", "ns": "30"}, "queue": {"count": "2", "ns": "10"}, "fail": {}}
    expected = {
        "success": (2, 30),
        "fail": (0, 0),
        "queue": (2, 10),
        "compute_input": (0, 0),
        "compute_infer": (0, 0),
        "compute_output": (0, 0),
    }
    assert _spans({"inference_stats": http}) == _spans({"inference_stats": grpc}) == expected
