from __future__ import annotations

import json

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from python_backend.triton._tensors import add_timing, json_tensor, read_optional_text, read_texts


def test_read_texts_decodes_every_element():
    tensors = {"QUERY": np.array([b"a", "é".encode(), b""], np.object_)}
    assert read_texts(tensors, "QUERY") == ["a", "é", ""]


def test_read_texts_names_the_element_that_is_not_utf8():
    tensors = {"QUERY": np.array([b"a", b"\xff"], np.object_)}
    with pytest.raises(InvalidRequestError, match=r"QUERY\[1\] must be UTF-8"):
        read_texts(tensors, "QUERY")


def test_read_optional_text():
    tensors = {"OPTIONS": np.array([b"{}"], np.object_)}
    assert read_optional_text(tensors, "OPTIONS") == "{}"
    assert read_optional_text(tensors, "VIDEO_URI") is None


def test_add_timing_keeps_what_was_there():
    tensors = {"STAGE_INFO": json_tensor({"grid": 3, "timing_ms": {"decode": 1.5}})}
    added = add_timing(tensors, "STAGE_INFO", {"ground": 2.5})
    assert added.shape == (1,)
    assert json.loads(added[0]) == {"grid": 3, "timing_ms": {"decode": 1.5, "ground": 2.5}}


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b"null", b"{}", b'{"timing_ms": 1}'])
def test_add_timing_refuses_what_no_step_wrote(text):
    tensors = {"STAGE_INFO": np.array([text], np.object_)}
    with pytest.raises(InvalidRequestError, match="STAGE_INFO must be what the step before"):
        add_timing(tensors, "STAGE_INFO", {})
