"""A test that is repeated, and what its runs come to."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import repeat

TESTS = """
from pathlib import Path

import pytest

COUNT = Path(__file__).with_name("count")


def test_fails_the_second_time():
    COUNT.write_text(COUNT.read_text() + "x" if COUNT.exists() else "x")
    assert COUNT.read_text() != "xx", "not twice"


def test_needs_something():
    pytest.skip("it is not here")
"""


def test_each_run_is_counted_and_a_failure_is_told(tmp_path, monkeypatch):
    file, out = tmp_path / "test_a.py", tmp_path / "out.json"
    file.write_text(TESTS)
    monkeypatch.setattr(sys, "argv", ["repeat", str(file), "--times", "3", "--out", str(out)])
    with pytest.raises(SystemExit, match="1 failures"):
        repeat.main()
    results = json.loads(out.read_text())["results"]
    assert results["runs"] == 3
    (fails, skips) = results["tests"].values()
    assert (fails["passed"], fails["failed"], fails["seconds"]["count"]) == (2, 1, 3)
    assert skips["skipped"] == 3
    (failure,) = results["failures"]
    assert failure["run"] == 2
    assert "not twice" in failure["message"]


def test_a_selection_without_tests_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="ran no test"):
        repeat.run_once(str(tmp_path / "nothing.py"), [])
