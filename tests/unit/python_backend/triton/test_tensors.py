from __future__ import annotations

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from python_backend.triton._tensors import read_optional_text, read_texts


def test_read_texts_decodes_every_element():
    tensors = {"QUERY": np.array([b"a", "é".encode(), b""], np.object_)}
    assert read_texts(tensors, "QUERY") == ["a", "é", ""]


def test_read_texts_names_the_element_that_is_not_utf8():
    tensors = {"QUERY": np.array([b"a", b"\xff"], np.object_)}
    with pytest.raises(InvalidRequestError, match=r"QUERY\[1\] must be UTF-8"):
        read_texts(tensors, "QUERY")


def test_text_that_is_left_out_is_none():
    assert read_texts({}, "QUERY") == []


def test_read_optional_text():
    tensors = {"OPTIONS": np.array([b"{}"], np.object_)}
    assert read_optional_text(tensors, "OPTIONS") == "{}"
    assert read_optional_text(tensors, "VIDEO_URI") is None
