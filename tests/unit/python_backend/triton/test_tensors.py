from __future__ import annotations

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.limits import Limits
from python_backend.triton._tensors import read_optional_text, read_queries, read_text

LIMITS = Limits(max_queries=3, max_query_bytes=4, max_text_bytes=6)


class Untouchable(bytes):
    """An element that must be refused before it is decoded."""

    def decode(self, *args):
        raise AssertionError("decoded")


def queries(*elements: bytes) -> dict[str, np.ndarray]:
    return {"QUERY": np.array(elements, np.object_)}


def test_read_queries_decodes_every_element():
    assert read_queries(queries(b"a", "é".encode(), b""), LIMITS) == ["a", "é", ""]


def test_read_queries_names_the_element_that_is_not_utf8():
    with pytest.raises(InvalidRequestError, match=r"QUERY\[1\] must be UTF-8"):
        read_queries(queries(b"a", b"\xff"), LIMITS)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([b""] * 4, r"QUERY must hold 1\.\.3 questions, got 4"),
        ([b"a", b"12345"], r"QUERY\[1\] must be at most 4 bytes, got 5"),
        ([b"123", b"1234"], r"QUERY must be at most 6 bytes in all \(max_text_bytes\), got 7"),
    ],
)
def test_read_queries_refuses_by_size_before_decoding(elements, message):
    with pytest.raises(InvalidRequestError, match=message):
        read_queries(queries(*map(Untouchable, elements)), LIMITS)


def test_no_queries_are_refused():
    for tensors in ({}, queries()):
        with pytest.raises(InvalidRequestError, match=r"1\.\.3 questions, got 0"):
            read_queries(tensors, LIMITS)


def test_default_limits_take_32_ordinary_questions_with_a_long_one_among_them():
    assert len(read_queries(queries(*[b"x" * 700] * 32), Limits())) == 32
    assert len(read_queries(queries(b"x" * 16 * 1024, *[b"x" * 250] * 31), Limits())) == 32


def test_read_text():
    tensors = {"OPTIONS": np.array([b"{}"], np.object_)}
    assert read_text(tensors, "OPTIONS", max_bytes=2) == "{}"
    assert read_optional_text(tensors, "OPTIONS", max_bytes=2) == "{}"
    assert read_optional_text(tensors, "VIDEO_URI", max_bytes=2) is None


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([], "STREAM must hold 1 element, got 0"),
        ([b"", b""], "STREAM must hold 1 element, got 2"),
        ([b"123"], "STREAM must be at most 2 bytes, got 3"),
    ],
)
def test_read_text_refuses_by_size_before_decoding(elements, message):
    tensors = {"STREAM": np.array([Untouchable(element) for element in elements], np.object_)}
    with pytest.raises(InvalidRequestError, match=message):
        read_text(tensors, "STREAM", max_bytes=2)
