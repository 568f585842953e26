from __future__ import annotations

import pytest

from groundserve.errors import RequestCancelledError
from groundserve.runtime.deadline import Deadline
from python_backend.cache.store import locked

KEY = "ab" * 32


def soon() -> Deadline:
    return Deadline.after(0.05)


def test_wait_ends_when_the_request_is_cancelled(tmp_path):
    asked = iter([False, False, True])
    cancelled = Deadline.after(60, is_cancelled=lambda: next(asked))
    lock = tmp_path / "lock"
    with (
        locked(lock, KEY, deadline=soon()),
        pytest.raises(RequestCancelledError),
        locked(lock, KEY, deadline=cancelled),
    ):
        pytest.fail("locked twice")
