from __future__ import annotations

import pytest

from groundserve.errors import InvalidRequestError
from python_backend.cache import CacheConfig


@pytest.mark.parametrize("environment", [{}, {"GROUNDSERVE_CACHE_DIR": ""}])
def test_off_where_the_directory_is_unset(environment):
    assert CacheConfig.from_environment(environment) is None


@pytest.mark.parametrize("text", ["", "8G", "0"])
def test_bad_size_is_named(text):
    environment = {"GROUNDSERVE_CACHE_DIR": "/c", "GROUNDSERVE_CACHE_BYTES": text}
    with pytest.raises(InvalidRequestError, match="GROUNDSERVE_CACHE_BYTES must be"):
        CacheConfig.from_environment(environment)


def test_relative_directory_is_named():
    with pytest.raises(InvalidRequestError, match="GROUNDSERVE_CACHE_DIR must be an absolute"):
        CacheConfig.from_environment({"GROUNDSERVE_CACHE_DIR": "cache"})
