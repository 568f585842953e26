"""Events of a job, and a clock that a test sets."""

from __future__ import annotations

from groundserve.batch.events import Started, UnitDone


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def started(**changes: int) -> Started:
    counts = {"num_rows": 1000, "num_done": 0, "num_failed": 0, "num_to_do": 1000}
    counts |= {"num_groups": 10, "workers": 1} | changes
    return Started(**counts, manifest="m.jsonl", failures={"Missing": counts["num_failed"]})


def done(num_rows: int, *, unit: int = 0, video_seconds: float = 0.0, **failures: int) -> UnitDone:
    return UnitDone(
        unit=unit,
        num_rows=num_rows,
        failures=failures,
        num_videos=1,
        num_decoded=1,
        num_calls=1,
        video_seconds=video_seconds,
        stage_seconds={},
        started=0.0,
        wall_seconds=1.0,
        host="here",
        pid=1,
        shard="scores/a.parquet",
        num_bytes=1,
        sha256="a",
    )
