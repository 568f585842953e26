from __future__ import annotations

from groundserve import errors
from groundserve.errors import (
    EngineMismatchError,
    GroundserveError,
)
from python_backend.triton._errors import (
    ERROR_CLASSES,
)


def test_every_class_of_ours_can_come_back_or_is_a_failure():
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, GroundserveError)
    }
    failures = {GroundserveError, EngineMismatchError, errors.MissingExtraError}
    assert {kind.__name__ for kind in kinds - failures} == set(ERROR_CLASSES) - {"InternalError"}
