from __future__ import annotations

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.limits import Limits


def test_operator_sets_any_field():
    limits = Limits.from_environment(
        {
            "GROUNDSERVE_MAX_QUERIES": "8",
            "GROUNDSERVE_MAX_REQUEST_SECONDS": "1.5",
            "GROUNDSERVE_ALLOWED_ROOTS": "/",
        }
    )
    assert limits == Limits(max_queries=8, max_request_seconds=1.5)
    assert isinstance(limits.max_queries, int)


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "1e3", " 8", "8 ", "²", "9" * 20, "nan"])
def test_whole_number_is_read_strictly(value):
    with pytest.raises(
        InvalidRequestError, match="GROUNDSERVE_MAX_QUERIES must be a whole number above 0, got"
    ):
        Limits.from_environment({"GROUNDSERVE_MAX_QUERIES": value})


@pytest.mark.parametrize("value", ["", "0", "0.0", "-1", "1.2.3", ".", "inf", "nan", "1e3"])
def test_number_is_read_strictly(value):
    with pytest.raises(
        InvalidRequestError, match="GROUNDSERVE_MAX_REQUEST_SECONDS must be a number above 0, got"
    ):
        Limits.from_environment({"GROUNDSERVE_MAX_REQUEST_SECONDS": value})
