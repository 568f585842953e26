"""Errors travel: out of a worker process, with what they know."""

import copy
import pickle

import pytest

from groundserve import errors
from groundserve.errors import GroundserveError, MissingExtraError

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, GroundserveError)
]


@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
@pytest.mark.parametrize("kind", CLASSES)
def test_error_is_the_same_in_another_process(kind, again):
    error = kind("serve", "av") if kind is MissingExtraError else kind("top_k must be >= 1")
    error.request_id = "r-1"
    found = again(error)
    assert type(found) is kind
    assert (str(found), found.request_id) == (str(error), "r-1")


def test_missing_extra_names_the_extra_and_the_module():
    found = pickle.loads(pickle.dumps(MissingExtraError("serve", "av")))
    assert (found.extra, found.name) == ("serve", "av")
    assert str(found) == "av is not installed; it comes with: pip install 'groundserve[serve]'"
