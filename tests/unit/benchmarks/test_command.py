"""Command lines of runners say what is wrong with them in one line."""

import argparse

import pytest

from benchmarks._command import existing_file, positive, run
from groundserve.errors import InvalidRequestError


def test_a_typed_error_is_one_line(monkeypatch):
    def main():
        raise InvalidRequestError("engines is no engine directory")

    monkeypatch.setattr("sys.argv", ["benchmarks/stages.py"])
    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == "stages: error: engines is no engine directory"


def test_arguments_are_checked(tmp_path):
    assert positive("3") == 3
    for text in ("0", "-1", "1.5", "x", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number >= 1, got"):
            positive(text)
    with pytest.raises(argparse.ArgumentTypeError, match="no such file: "):
        existing_file(str(tmp_path))
