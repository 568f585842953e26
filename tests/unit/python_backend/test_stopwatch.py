from __future__ import annotations

from types import SimpleNamespace

import pytest

from python_backend import stopwatch
from python_backend.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [100.0]
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return now


def test_time_of_blocks_side_by_side_is_booked_once(clock):
    watch = Stopwatch()
    first, second = watch.measure("encode"), watch.measure("encode")
    first.__enter__()
    clock[0] += 1
    second.__enter__()
    clock[0] += 2
    first.__exit__(None, None, None)
    clock[0] += 4
    assert watch.timing_ms == {}
    second.__exit__(None, None, None)
    assert watch.timing_ms == {"encode": 7000}
