from __future__ import annotations

import pytest

from groundserve import errors
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
    from_classed_message,
    to_classed_message,
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
    "kind",
    [
        InvalidRequestError,
        MediaError,
        UnsupportedError,
        UnavailableError,
        DeadlineExceededError,
        RequestCancelledError,
    ],
)
def test_error_of_an_inner_model_comes_back_as_itself(kind):
    error = kind("a: b")
    back = from_classed_message("inner", to_classed_message(error))
    assert type(back) is kind
    assert str(back) == "a: b"


def test_every_class_of_ours_can_come_back_or_is_a_failure():
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, GroundserveError)
    }
    failures = {GroundserveError, EngineMismatchError, errors.MissingExtraError}
    assert {kind.__name__ for kind in kinds - failures} == set(ERROR_CLASSES) - {"InternalError"}


@pytest.mark.parametrize("text", ["something else", "INVALID_ARG: x", ""])
def test_failure_of_an_inner_model_is_a_failure(text):
    error = from_classed_message("inner", text)
    assert type(error) is GroundserveError
    assert str(error) == f"the model inner failed: {text}"


def test_failure_of_ours_says_nothing_to_a_bls_caller_either():
    text = to_classed_message(EngineMismatchError("/secret"))
    assert text == "InternalError: the server failed on this request; its log says why"
    assert type(from_classed_message("inner", text)) is GroundserveError


@pytest.mark.parametrize(
    "text",
    [
        "Stub process 'inner_0_0' is not healthy.",
        "Model inner - Error when running inference: Server not ready",
    ],
)
def test_inner_model_that_is_down_for_a_moment_is_unavailable(text):
    error = from_classed_message("inner", text)
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
