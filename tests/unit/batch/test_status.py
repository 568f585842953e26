"""A look at a run from outside: never begun, going on, dead, finished."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from groundserve.batch.plan import Plan
from groundserve.batch.run_directory import RunDirectory
from groundserve.batch.status import read_status
from groundserve.storage import Storage
from tests.unit.batch.making import FINGERPRINT, final_rows, make_corpus, work


@pytest.fixture
def rows(tmp_path):
    return make_corpus(tmp_path / "videos", num_videos=3, num_queries=2)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def half(out, rows, fails=lambda query: False):
    """Begin a run, do all but its last video, and leave it open."""
    directory = RunDirectory(str(out), FINGERPRINT, manifest="m.jsonl", is_resumed=True)
    with Plan.make(
        rows, fingerprint=FINGERPRINT, done=directory.done(), failures=directory.failures()
    ) as plan:
        directory.write(plan.started(workers=1, manifest="m.jsonl"))
        for group in [*plan.groups()][:-1]:
            directory.publish([work(group, fails=fails)])
    return directory


def edit_attempt(out, **changes):
    path = sorted((out / "attempts").iterdir())[-1]
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_run_that_goes_on(rows, out, monkeypatch):
    with half(out, rows, fails=lambda query: query == "q1"):
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        with monkeypatch.context() as patch:
            # At the moment of the last event: a rate falls as long as nothing follows.
            patch.setattr("groundserve.batch.status.time.time", lambda: 0.0)
            status = read_status(str(out))
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
        assert status.state == "running"
        assert (status.attempt, status.host, status.pid) == (1, socket.gethostname(), os.getpid())
        assert (status.num_rows, status.num_done, status.num_failed) == (6, 2, 2)
        assert status.num_left == 2
        assert status.failures == {"Unreadable": 2}
        assert status.video_hours == 10 / 3600
        assert status.started <= status.last_heartbeat <= time.time()
        assert status.rows_per_second > 0
        # Both of the same numbers, so equal but for the rounding of one division.
        assert status.eta_seconds == pytest.approx(2 / status.rows_per_second)
        assert (status.manifest, status.fingerprint) == ("m.jsonl", asdict(FINGERPRINT))
        assert json.loads(json.dumps(status.to_json())) == status.to_json()


def test_a_run_whose_driver_is_dead(rows, out):
    half(out, rows).close()
    assert read_status(str(out)).state == "running"  # this process is still there
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        edit_attempt(out, pid=process.pid)
    status = read_status(str(out))
    assert (status.state, status.num_done, status.num_left) == ("stopped", 4, 2)
    assert status.eta_seconds is None
    edit_attempt(out, pid=os.getpid(), process="some boot 17")  # another one of that number
    assert read_status(str(out)).state == "stopped"


def test_a_driver_elsewhere_is_told_by_its_heartbeat(rows, out):
    half(out, rows).close()
    edit_attempt(out, host="elsewhere")
    assert read_status(str(out)).state == "running"
    log = out / "log" / "attempt-0001.jsonl"
    old = [
        {**json.loads(line), "time": time.time() - 3600} for line in log.read_text().splitlines()
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in old))
    status = read_status(str(out))
    assert status.state == "silent"
    assert status.last_heartbeat < time.time() - 3000


def test_a_resumed_run_counts_what_was_done_before(rows, out):
    half(out, rows, fails=lambda query: query == "q1").close()
    with half(out, rows):
        status = read_status(str(out))
    # Done: two before, and of the second attempt's three videos two, one of which has one row left.
    assert status.attempt == 2
    assert status.num_done == len(final_rows(out))
    assert status.num_done + status.num_left == 6
    assert status.num_failed == 0


def test_a_run_that_begins_during_the_look_is_empty(out, monkeypatch):
    out.mkdir()
    (out / ".run.json.4711.partial").write_text("{")
    read = Storage.read

    def read_then_begin(storage, name):
        try:
            return read(storage, name)
        finally:
            (out / "run.json").write_text("{}")

    monkeypatch.setattr(Storage, "read", read_then_begin)
    assert read_status(str(out)).state == "empty"
