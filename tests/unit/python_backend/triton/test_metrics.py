"""How long the metrics of a process live, and who may change them: a stand-in for its module."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from python_backend.triton._answer import Answer

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


class OneAtATime:
    """What pb_utils.Metric is: two threads in it at once end the server."""

    busy = threading.Lock()

    def __init__(self) -> None:
        self.value = 0.0

    def increment(self, amount):
        assert self.busy.acquire(blocking=False), "two threads change a metric at once"
        before = self.value
        time.sleep(0.001)
        self.value = before + amount
        self.busy.release()

    set = observe = increment


class Family:
    COUNTER = GAUGE = HISTOGRAM = None

    def __init__(self, **_) -> None:
        pass

    def Metric(self, **_):  # noqa: N802 - Triton's name
        return OneAtATime()


@pytest.fixture
def metrics(monkeypatch):
    fake = ModuleType("triton_python_backend_utils")
    fake.MetricFamily = Family
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.delitem(sys.modules, "python_backend.triton._metrics", raising=False)
    module = importlib.import_module("python_backend.triton._metrics")
    yield module.Metrics()
    sys.modules.pop("python_backend.triton._metrics")


def test_threads_take_turns(metrics):
    calls = [
        lambda: metrics.add("generated_tokens"),
        lambda: metrics.set_cache_bytes(1),
        lambda: metrics.observe(Answer(outputs={}, info={"timing_ms": {"generate": 1.0}})),
        lambda: metrics.observe(ValueError()),
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda call: [call() for _ in range(5)], calls * 2))
    assert metrics._counters["generated_tokens"].value == 10


def test_families_are_never_collected():
    """Not even when the process ends: by then it could not tell the server, and would crash."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "collected another\n"
