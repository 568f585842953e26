from __future__ import annotations

import pytest

from groundserve.errors import DeadlineExceededError, RequestCancelledError
from groundserve.runtime.deadline import Deadline


def test_passed_deadline_says_what_was_allowed():
    with pytest.raises(DeadlineExceededError, match=r"did not finish within 0 s; allow more time"):
        Deadline.after(0).check()


@pytest.mark.parametrize("seconds", [60, 0])
def test_cancelled_request_is_over_whatever_time_is_left(seconds):
    deadline = Deadline.after(seconds, is_cancelled=lambda: True)
    for look in (deadline.check, deadline.wait_seconds):
        with pytest.raises(RequestCancelledError, match="cancelled by its caller"):
            look()
