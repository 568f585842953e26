from __future__ import annotations

import json

from python_backend.triton._answer import Answer, log_line


def test_made_up_facts_do_not_reach_the_log():
    report = {
        "cache_hit": "secret",
        "grid": ["secret"],
        "secret": 1,
        "video_bytes": 10**400,
        "timing_ms": {"secret": 1, "ground": "secret", "cut": float("nan"), "encode": 2.0},
    }
    answer = Answer(outputs={}, report=report)
    line = json.loads(log_line("grounding", "a-1", answer, shapes={}, seconds=0.25))
    assert "secret" not in json.dumps(line)
    assert "video_bytes" not in line
    assert line["timing_ms"] == {"encode": 2.0}
