"""What callers give by mistake, and what they are told."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from groundserve.arguments import (
    check_answer_options,
    check_answer_queries,
    check_number,
    check_options,
    check_queries,
)
from groundserve.errors import InvalidRequestError
from groundserve.options import AnswerOptions, ScoreOptions


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


def test_a_task_may_take_no_question():
    assert check_answer_queries(()) == check_answer_queries([]) == [""]
    assert check_answer_queries("When?") == ["When?"]
    assert check_answer_queries(np.array(["a", "b"])) == ["a", "b"]
    for wrong in (None, 3, {}, [3]):
        with pytest.raises(InvalidRequestError, match="must be a text"):
            check_answer_queries(wrong)


def test_options_are_those_of_the_head():
    assert check_answer_options(None) == AnswerOptions()
    options = AnswerOptions(task="chat")
    assert check_answer_options(options) is options
    with pytest.raises(InvalidRequestError, match="an AnswerOptions, such as"):
        check_answer_options(ScoreOptions())
    with pytest.raises(InvalidRequestError, match="a ScoreOptions, such as"):
        check_options(options)
