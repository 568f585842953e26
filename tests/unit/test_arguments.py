"""What callers give by mistake, and what they are told."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from groundserve.arguments import check_number, check_queries
from groundserve.errors import InvalidRequestError
from groundserve.options import ScoreOptions


@pytest.mark.parametrize("value", [10**400, Fraction(10**400)])
def test_a_number_that_no_float_holds_is_refused(value):
    with pytest.raises(InvalidRequestError, match="seconds is too large for a float"):
        check_number("seconds", value)


def test_an_array_of_texts_is_read_and_one_without_a_dimension_refused():
    assert check_queries(np.array(["a", "b"])) == ["a", "b"]
    with pytest.raises(InvalidRequestError, match="a sequence of texts, got a ndarray"):
        check_queries(np.array("a"))


@pytest.mark.parametrize("value", [np.array(["eval", "infer"]), ["eval"], None])
def test_a_choice_that_is_no_text_is_refused(value):
    message = re.escape("sampling must be one of eval, infer, got ")
    with pytest.raises(InvalidRequestError, match=message):
        ScoreOptions(sampling=value)
