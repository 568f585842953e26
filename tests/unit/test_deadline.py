from __future__ import annotations

import pytest

from groundserve.deadline import POLL_SECONDS, Deadline
from groundserve.errors import DeadlineExceededError, RequestCancelledError


def test_time_left_is_no_error():
    deadline = Deadline.after(60)
    deadline.check()
    assert 0 < deadline.remaining_seconds() <= 60


def test_passed_deadline_says_what_was_allowed():
    with pytest.raises(DeadlineExceededError, match=r"did not finish within 0 s; allow more time"):
        Deadline.after(0).check()


def test_wait_is_cut_short_only_where_something_can_cancel_it():
    assert Deadline.after(60).wait_seconds() > 59
    assert Deadline.after(60, is_cancelled=lambda: False).wait_seconds() == POLL_SECONDS
    assert (
        0
        < Deadline.after(POLL_SECONDS / 2, is_cancelled=lambda: False).wait_seconds()
        < (POLL_SECONDS)
    )


@pytest.mark.parametrize("seconds", [60, 0])
def test_cancelled_request_is_over_whatever_time_is_left(seconds):
    deadline = Deadline.after(seconds, is_cancelled=lambda: True)
    for look in (deadline.check, deadline.wait_seconds):
        with pytest.raises(RequestCancelledError, match="cancelled by its caller"):
            look()
