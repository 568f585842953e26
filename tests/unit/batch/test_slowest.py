"""Which videos of a unit took longest: told by its receipt, and kept by the journal."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from groundserve.batch import shards
from groundserve.batch.errors import ErrorKind
from groundserve.batch.events import VideoTime, from_json, to_json
from groundserve.batch.plan import Plan
from groundserve.batch.shards import ShardWriter, Staging
from groundserve.batch.units import UnitSize
from tests.unit.batch.making import FINGERPRINT, make_row, score
from tests.unit.batch.test_progress import done


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=50.0)
    names = {name: getattr(shards.time, name) for name in ("time",)}
    fake = SimpleNamespace(perf_counter=lambda: now.seconds, **names)
    monkeypatch.setattr(shards, "time", fake)
    return now


def test_slowest_videos_of_a_unit(tmp_path, clock):
    rows = []
    for position, name in enumerate("abcdde"):
        video = tmp_path / f"{name}.mp4"
        video.write_bytes(name.encode())
        asked = make_row(video, f"q{position}", id=f"r{position}", position=position, top_k=1)
        rows.append(asked)
    with Plan.make(rows, fingerprint=FINGERPRINT) as plan:
        (unit,) = plan.units(UnitSize())
    writer = ShardWriter(unit)
    for group, seconds in zip(unit.groups, (1.0, 8.0, 2.0, 4.0, 3.0), strict=True):
        clock.seconds += seconds
        if group.place.endswith("b.mp4"):
            writer.fail(group, ErrorKind.TIMEOUT, "it hung")
        for options, queries in group.calls(1) if not group.place.endswith("b.mp4") else ():
            result = score(group.place.encode(), queries, options)
            writer.add(group, options, result)
    receipt = writer.write(Staging(place=str(tmp_path / "out"), attempt=1))
    duration = result.duration_seconds
    assert receipt.slowest == (
        VideoTime("b.mp4", 8.0, 1, 0.0),
        VideoTime("d.mp4", 4.0, 2, duration),
        VideoTime("e.mp4", 3.0, 1, duration),
    )
    assert receipt.wall_seconds == 18.0


def test_journal_keeps_them():
    event = done(1)
    line = json.dumps(to_json(event) | {"slowest": [["a.mp4", 3.0, 8, 60.0]]})
    read = from_json(json.loads(line))
    assert read.slowest == (VideoTime("a.mp4", 3.0, 8, 60.0),)
    assert from_json(json.loads(json.dumps(to_json(read)))) == read
