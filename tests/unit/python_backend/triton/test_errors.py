from __future__ import annotations

import pytest

from groundserve.errors import (
    DeadlineExceededError,
    EngineMismatchError,
    GroundserveError,
    InvalidRequestError,
    MediaError,
    RequestCancelledError,
    UnavailableError,
    UnsupportedError,
)
from python_backend.triton._errors import (
    ERROR_CLASSES,
    code_and_message,
    error_class,
    from_coded_message,
    to_coded_message,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidRequestError("x must be y"), ("INVALID_ARG", "x must be y")),
        (MediaError("no video"), ("INVALID_ARG", "no video")),
        (UnsupportedError("not here"), ("UNSUPPORTED", "not here")),
        (UnavailableError("died"), ("UNAVAILABLE", "died")),
        (DeadlineExceededError("late"), ("UNAVAILABLE", "late")),
        (RequestCancelledError("gone"), ("CANCELLED", "gone")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_caller_reads_what_the_caller_can_act_on(error, expected):
    assert code_and_message(error) == expected


@pytest.mark.parametrize(
    "error",
    [
        GroundserveError("secret"),
        EngineMismatchError("secret"),
        ValueError("secret"),
        OSError("/secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_say_nothing(error):
    code, message = code_and_message(error)
    assert code == "INTERNAL"
    assert message == "the server failed on this request; its log says why"


@pytest.mark.parametrize(
    ("error", "comes_back_as"),
    [
        (InvalidRequestError("a: b"), InvalidRequestError),
        (MediaError("a: b"), InvalidRequestError),
        (UnsupportedError("a: b"), UnsupportedError),
        (UnavailableError("a: b"), UnavailableError),
        (DeadlineExceededError("a: b"), UnavailableError),
        (RequestCancelledError("a: b"), RequestCancelledError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_error_of_an_inner_model_comes_back(error, comes_back_as):
    back = from_coded_message("inner", to_coded_message(*code_and_message(error)))
    assert type(back) is comes_back_as
    assert code_and_message(back) == code_and_message(error)


@pytest.mark.parametrize(
    "text",
    ["INTERNAL: failed", "something else", ""],
)
def test_failure_of_an_inner_model_is_a_failure(text):
    error = from_coded_message("inner", text)
    assert type(error) is GroundserveError
    assert str(error) == f"the model inner failed: {text}"


def test_inner_model_that_is_down_for_a_moment_is_unavailable():
    error = from_coded_message("inner", "Stub process 'inner_0_0' is not healthy.")
    assert type(error) is UnavailableError
    assert str(error) == "a model of the server is being restarted; try again"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (MediaError("x"), "MediaError"),
        (DeadlineExceededError("x"), "DeadlineExceededError"),
        (RequestCancelledError("x"), "RequestCancelledError"),
        (EngineMismatchError("x"), "InternalError"),
        (ZeroDivisionError("x"), "InternalError"),
    ],
)
def test_error_class_is_one_of_few(error, name):
    assert error_class(error) == name
    assert name in ERROR_CLASSES
