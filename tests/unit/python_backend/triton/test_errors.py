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
    from_classed_message,
    to_classed_message,
)


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
