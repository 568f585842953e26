from __future__ import annotations

from dataclasses import replace

from groundserve.batch.events import Finished, RowFailed, Started, UnitLost, VideoTime
from groundserve.batch.journal import Entry
from groundserve.batch.report_log import _Log
from tests.unit.batch.events import done, started


def entries(*timed: tuple[float, object]) -> list[Entry]:
    return [Entry(time=time, event=event) for time, event in timed]


def test_attempts_follow_each_other_without_the_time_between():
    log = _Log()
    unit = replace(
        done(6, Missing=2, video_seconds=60.0),
        wall_seconds=4.0,
        stage_seconds={"decode": 1.0, "encode": 2.0, "total": 2.5},
        slowest=[["a.mp4", 3.0, 8, 60.0]],
    )
    failed = RowFailed(id="r", row_key="k", kind="Missing", message="gone")
    began = started(num_failed=3)
    log.read(1, entries((100, began), (110, failed), (110, unit)), {"started": 98, "host": "h"})
    later = (
        (5000, Started(**{**vars(started()), "num_done": 6})),
        (5010, replace(unit, pid=2)),
        (5012, UnitLost(unit=3, num_rows=4, is_alone=True, message="died")),
        (5020, Finished(num_done=12, num_failed=6)),
    )
    log.read(2, entries(*later), {})
    first, second = (attempt.as_fact() for attempt in log.attempts)
    assert (first.seconds, first.host, first.end) == (12, "h", "ended before it was done")
    assert (first.num_scored, first.num_failed) == (6, 5)  # three of which it did not try
    assert (second.seconds, second.end, second.num_failed) == (20, "finished", 6)
    assert log.seconds == 32
    assert log.attempts[1].offset == 12
    assert log.video_seconds == 120
    # 8 s of work, 5 of them in calls of the scorer, whose stages overlap.
    assert log.stages() == {
        "encode": 4.0,
        "outside: opening engines, fetching, writing": 3.0,
        "decode": 2.0,
    }
    assert [worker.num_rows for _, worker in log.workers()] == [8, 8]
    assert log.failures.counts == {}  # what failed in the first attempt was tried again
    assert unit.slowest == (VideoTime("a.mp4", 3.0, 8, 60.0),)
    assert [slow.seconds for _, _, slow in log.slowest] == [3.0, 3.0]
