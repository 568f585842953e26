"""What the requests of a load come to."""

from __future__ import annotations

import pytest

from benchmarks import serve
from benchmarks.serve import Sample, summarise


def sample(due, seconds, code="ok"):
    return Sample(due=due, done=due + seconds, code=code)


SAMPLES = [
    sample(9.0, 0.5),  # of the warm-up
    sample(9.9, 0.3),  # due before, answered within
    sample(10.0, 0.1),
    sample(11.0, 0.2),
    sample(12.5, 0.004, code="StatusCode.UNAVAILABLE"),
    sample(13.9, 2.5),  # answered afterwards
    sample(14.0, 0.1),  # due afterwards
]


def test_rates_count_answers_and_latencies_count_what_was_due(monkeypatch):
    monkeypatch.setattr(serve, "available_cpus", lambda: 2)
    found = summarise(SAMPLES, start=10.0, end=14.0, cpu_seconds=6.0)
    assert found["offered_per_second"] == 4 / 4
    assert found["answers_per_second"] == 3 / 4
    assert found["outcomes"] == {"ok": 3, "StatusCode.UNAVAILABLE": 1}
    assert found["num_not_answered"] == 1
    assert found["seconds"]["count"] == 3
    assert found["seconds"]["median"] == pytest.approx(0.2)
    assert found["refused_seconds"]["median"] == pytest.approx(0.004)
    # Two seconds of the processor an answer, two cores.
    assert found["cpu"]["seconds_per_answer"] == 2.0
    assert found["cpu"]["floor_answers_per_second"] == 1.0
    assert found["cpu"]["share_of_floor"] == 3 / 4
