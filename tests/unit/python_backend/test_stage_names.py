"""Every stage that is timed has a name that the metrics know, and every name is a stage's."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

import python_backend
from python_backend.stopwatch import STAGES


def measured_names() -> set[str]:
    """The first argument of every call of a `measure`, in all that stopwatches are used in."""
    calls = [
        node
        for path in Path(python_backend.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "measure"
    ]
    return {ast.literal_eval(call.args[0]) for call in calls}


class FakeMetric:
    def __init__(self):
        self.observed = []

    def observe(self, value):
        self.observed.append(value)


class FakeFamily:
    """What `pb_utils.MetricFamily` does."""

    COUNTER = GAUGE = HISTOGRAM = None

    def __init__(self, *, name, description, kind):
        self.by_labels = {}

    def Metric(self, *, labels, buckets=()):  # noqa: N802 - Triton's name
        return self.by_labels.setdefault(tuple(labels.values()), FakeMetric())


@pytest.fixture
def metrics(monkeypatch):
    fake = ModuleType("triton_python_backend_utils")
    fake.MetricFamily = FakeFamily
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    name = "python_backend.triton._metrics"
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name).Metrics()
    sys.modules.pop(name)


def test_what_is_measured_are_the_stages():
    assert measured_names() == set(STAGES)


def test_metrics_take_every_stage(metrics):
    metrics.observe_stages({stage: 1000.0 * number for number, stage in enumerate(STAGES)})
    by_stage = {stage: metrics._stages[stage].observed for stage in STAGES}
    assert by_stage == {stage: [float(number)] for number, stage in enumerate(STAGES)}
