"""How long the metrics of a process live, with a stand-in for Triton's module."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from types import ModuleType, SimpleNamespace

class MetricFamily:
    COUNTER = GAUGE = HISTOGRAM = None

    def __init__(self, *, name, description, kind):
        self.name = name

    def Metric(self, *, labels, buckets=()):
        return SimpleNamespace()

    def __del__(self):
        print("collected", self.name, flush=True)

fake = ModuleType("triton_python_backend_utils")
fake.MetricFamily = MetricFamily
sys.modules[fake.__name__] = fake
MetricFamily(name="another", description="", kind=None)

from python_backend.triton._metrics import Metrics

Metrics()  # collected now
kept = Metrics()  # when the interpreter ends
"""


def test_families_are_never_collected():
    """Not even when the process ends: by then it could not tell the server, and would crash."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "collected another\n"
