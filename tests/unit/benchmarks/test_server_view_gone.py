"""A server that went away amid a load."""

from __future__ import annotations

import pickle

import pytest

from benchmarks._server_view import ServerView
from groundserve.errors import UnavailableError


def test_a_server_that_went_away_is_told_of_across_processes():
    view = ServerView("grpc", "127.0.0.1:1", None)
    with pytest.raises(UnavailableError, match="the server tells no statistics") as error:
        view.read()
    view.close()
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
