"""What `benchmarks.serve` refuses before it starts a server."""

from __future__ import annotations

import sys

import pytest

from benchmarks._serve_arguments import parse_arguments


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--clients", "4,0"], "argument --clients: must be a whole number >= 1, got '0'"),
        (["--rates", "-1"], "--rates must be above 0 and finite, got -1.0"),
        (["--shares", "nan"], "--shares must be above 0 and finite, got nan"),
        (["--cached-shares", "1.5"], "--cached-shares must be in [0, 1], got 1.5"),
        (["--ways", ","], "--ways and --cached-shares must name at least one each"),
        (["--windows", "0"], "argument --windows: must be a whole number >= 1, got '0'"),
        (["--timeout-seconds", "inf"], "--timeout-seconds must be above 0 and finite, got inf"),
        (["missing.mp4"], "argument VIDEO: no such file: missing.mp4"),
    ],
)
def test_values_that_cannot_be_measured_are_refused(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["serve.py", *words])
    with pytest.raises(SystemExit) as end:
        parse_arguments("")
    assert end.value.code == 2
    assert message in capsys.readouterr().err
