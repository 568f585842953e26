from __future__ import annotations

import pytest

from groundserve.batch.progress import Tally, describe
from tests.unit.batch.events import Clock, done, started


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> Tally:
    return Tally(clock=clock)


def test_rows_of_earlier_attempts_count_as_finished_and_not_for_the_rate(tally, clock):
    tally.add(started(num_done=580, num_failed=10, num_to_do=410))
    tally.add(done(10))
    clock.seconds += 10
    tally.add(done(90, video_seconds=3600, Missing=10))
    assert tally.num_finished == 700
    assert tally.num_failed == 20
    assert tally.rows_per_second == 10
    assert tally.eta_seconds == 30
    assert tally.video_hours_per_second == 0.1
    assert describe(tally) == (
        "700 of 1000 rows, 20 failed, 10 rows/s, 0.1 video hours/s, ETA 0:00:30"
    )


def test_time_left_follows_a_job_that_becomes_slower(tally, clock):
    """After 100 rows in 10 s a poison video holds every worker: one row in 10 s from there on."""
    tally.add(started())
    for _ in range(100):
        clock.seconds += 0.1
        tally.add(done(1))
    assert tally.eta_seconds == pytest.approx(90, rel=0.02)
    for _ in range(40):
        clock.seconds += 10
        tally.add(done(1))
    # The last half of these 410 s has no row of the quick start in it.
    assert tally.rows_per_second == pytest.approx(0.1, rel=0.06)
    assert tally.eta_seconds == pytest.approx(8600, rel=0.06)
