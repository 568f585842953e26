"""What happened, written down and read back."""

import time

import pytest

from groundserve.batch import events, journal
from groundserve.batch.events import Finished, RowFailed, Said, Started, UnitDone, UnitLost
from groundserve.batch.journal import Journal, read_journal
from groundserve.storage import open_storage

EVENTS = [
    Started(
        num_rows=9,
        num_done=1,
        num_failed=2,
        num_to_do=6,
        num_groups=3,
        workers=2,
        manifest="m.jsonl",
    ),
    RowFailed(id="a\ud800\0", row_key="k", kind="Timeout", message="zu spät\n"),
    UnitDone(
        unit=0,
        num_rows=2,
        failures={"Timeout": 1},
        num_videos=2,
        num_decoded=1,
        num_calls=3,
        video_seconds=5.5,
        stage_seconds={"decode": 0.25},
        started=1.5,
        wall_seconds=2.0,
        host="h",
        pid=3,
        shard="scores/part-0.parquet",
        num_bytes=7,
        sha256="0",
    ),
    UnitLost(unit=1, num_rows=2, message="killed"),
    Said(message="a shard was damaged"),
    Finished(num_done=3, num_failed=6, failures={"Timeout": 6}, wall_seconds=1.0),
]


@pytest.fixture
def storage(tmp_path):
    return open_storage(str(tmp_path))


def happened(storage, attempt=1):
    return [event for _, event in read_journal(storage, attempt)]


def test_another_versions_events_are_left_out():
    newer = {**events.to_json(EVENTS[4]), "more": 1}
    assert events.from_json(newer) == EVENTS[4]
    assert events.from_json({"event": "said"}) is None
    assert events.from_json({"event": "unheard_of"}) is None
    assert events.from_json({}) is None


def test_lines_are_there_at_once(storage):
    before = time.time()
    log = Journal(storage, 1)
    try:
        for event in EVENTS:
            log.write(event)
            assert happened(storage)[-1] == event
        log.write(EVENTS[0], EVENTS[1])
        assert happened(storage) == [*EVENTS, *EVENTS[:2]]
        assert all(before <= now <= time.time() for now, _ in read_journal(storage, 1))
    finally:
        log.close()
    assert happened(storage, 2) == []
    assert storage.names("log") == ["attempt-0001.jsonl"]


def test_a_line_that_was_cut_short_is_left_out(storage):
    log = Journal(storage, 12)
    log.write(*EVENTS)
    log.close()
    (name,) = storage.names("log")
    data = storage.read(f"log/{name}")
    storage.write(f"log/{name}", data[:-20])
    assert happened(storage, 12) == EVENTS[:-1]
    storage.append(f"log/{name}", b"\xff\n[]\n{}\n" + data)
    assert happened(storage, 12) == [*EVENTS[:-1], *EVENTS]


def test_silence_is_broken_by_a_heartbeat(storage, monkeypatch):
    monkeypatch.setattr(journal, "HEARTBEAT_SECONDS", 0.01)
    log = Journal(storage, 1)
    try:
        for _ in range(1000):
            if storage.names("log") and happened(storage):
                break
            time.sleep(0.01)
    finally:
        log.close()
    assert set(happened(storage)) == {None}
