from __future__ import annotations

import json

import pytest

from groundserve.errors import EngineMismatchError, MediaError
from python_backend.triton._answer import Answer, log_line


def test_line_of_an_answer():
    answer = Answer(outputs={}, timing_ms={"ground": 1.23456}, facts={"num_queries": 2})
    assert json.loads(log_line("grounding", "a-1", answer)) == {
        "model": "grounding",
        "request_id": "a-1",
        "num_queries": 2,
        "timing_ms": {"ground": 1.235},
    }


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (MediaError("/secret.mp4"), "MediaError"),
        (EngineMismatchError("/secret"), "InternalError"),
        (KeyError("secret"), "InternalError"),
    ],
)
def test_line_of_an_error_has_its_class_alone(error, name):
    line = log_line("grounding", "", error)
    assert json.loads(line) == {"model": "grounding", "request_id": "", "error": name}


def test_request_id_cannot_break_the_line():
    line = log_line("grounding", "x\n" * 100, Answer(outputs={}))
    assert "\n" not in line
    assert json.loads(line)["request_id"] == "x\n" * 32
