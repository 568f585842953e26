from __future__ import annotations

import pytest

from groundserve.serving.backoff import (
    FIRST_DELAY_SECONDS,
    MAX_DELAY_SECONDS,
    QUIET_SECONDS,
    Backoff,
    delay_seconds,
)


@pytest.fixture
def backoff() -> Backoff:
    return Backoff()


def test_first_start_is_made_at_once_and_waits_grow_to_the_cap():
    delays = [delay_seconds(n) for n in range(8)]
    assert delays[:2] == [0.0, FIRST_DELAY_SECONDS]
    assert delays == sorted(delays)
    assert set(delays[5:]) == {MAX_DELAY_SECONDS}


def test_wait_stays_at_the_cap_for_ever():
    assert delay_seconds(10**9) == MAX_DELAY_SECONDS


def test_nothing_is_due_before_a_failure_and_after_a_success(backoff):
    assert backoff.due is None
    assert backoff.fail(10.0) == backoff.due == 10.0
    backoff.succeed(11.0)
    assert backoff.due is None


def test_failed_starts_wait_longer_each_time(backoff):
    now, waits = 0.0, []
    for _ in range(4):
        due = backoff.fail(now)
        waits.append(due - now)
        now = due + 30.0  # a start that takes long and fails is no time of serving
    assert waits == [0.0, 0.5, 1.0, 2.0]


@pytest.mark.parametrize(("served", "wait"), [(QUIET_SECONDS - 1, 0.5), (QUIET_SECONDS, 0.0)])
def test_only_serving_for_long_makes_failures_forgotten(backoff, served, wait):
    backoff.fail(0.0)
    backoff.succeed(100.0)
    assert backoff.fail(100.0 + served) == 100.0 + served + wait
