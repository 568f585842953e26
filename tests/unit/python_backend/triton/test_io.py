"""Requests and responses; a stand-in for Triton's module."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest

from groundserve.errors import DeadlineExceededError
from groundserve.limits import Limits
from groundserve.triton_messages import INTERNAL_MESSAGE


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def io(monkeypatch, log):
    fake = ModuleType("triton_python_backend_utils")
    fake.TritonError = lambda message, code: (message, code)
    fake.TritonError.INTERNAL = "INTERNAL"
    fake.InferenceResponse = lambda *, error: error
    fake.Logger = SimpleNamespace(log_error=log.append)
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.delitem(sys.modules, "python_backend.triton._io", raising=False)
    yield importlib.import_module("python_backend.triton._io")
    sys.modules.pop("python_backend.triton._io")


@pytest.mark.parametrize("parameters", ["", '{"class_in_message": true}', "\udcff"])
def test_failure_of_ours_says_nothing_and_is_logged(io, log, parameters):
    request = SimpleNamespace(parameters=lambda: parameters)
    message, code = io.answer(request, io.attempt(int, "a secret"))
    assert code == "INTERNAL"
    assert message == "InternalError: " * ("class" in parameters) + INTERNAL_MESSAGE
    (line,) = log
    assert "ValueError" in line


@pytest.mark.parametrize(
    ("microseconds", "seconds"), [(0, "60"), (100_000_000, "100"), (10**9, r"120\.5")]
)
def test_a_request_without_a_timeout_has_a_minute_and_a_long_one_the_ceiling(
    io, monkeypatch, microseconds, seconds
):
    request = SimpleNamespace(timeout=lambda: microseconds)
    deadline = io.read_deadline(request, Limits(max_request_seconds=120.5))
    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    with pytest.raises(DeadlineExceededError, match=rf"did not finish within {seconds} s"):
        deadline.check()
