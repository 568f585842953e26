"""A look at a run from outside: never begun, going on, dead, finished."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from groundserve.batch.attempts import process_mark
from groundserve.batch.events import Started
from groundserve.batch.local_storage import LocalStorage
from groundserve.batch.plan import Plan
from groundserve.batch.progress import Tally
from groundserve.batch.report_log import write_report
from groundserve.batch.run_directory import RunDirectory
from groundserve.batch.status import read_status
from groundserve.batch.units import UnitSize
from groundserve.errors import InvalidRequestError
from tests.unit.batch.making import FINGERPRINT, final_rows, make_corpus, run, work
from tests.unit.batch.test_progress import Clock, done, started


@pytest.fixture
def rows(tmp_path):
    return make_corpus(tmp_path / "videos", num_videos=3, num_queries=2)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def half(out, rows, fails=lambda query: False):
    """Begin a run, do all but its last unit, and leave it open."""
    directory = RunDirectory.resume(str(out), FINGERPRINT, manifest="m.jsonl")
    with Plan.make(
        rows, fingerprint=FINGERPRINT, done=directory.done(), failures=directory.failures()
    ) as plan:
        counts = plan.counts
        directory.write(
            Started(
                num_rows=counts.num_rows,
                num_done=counts.num_done,
                num_failed=counts.num_failed,
                num_to_do=counts.num_to_do,
                num_groups=counts.num_groups,
                workers=1,
                manifest="m.jsonl",
            )
        )
        for unit in list(plan.units(UnitSize(max_groups=1)))[:-1]:
            directory.publish(work(unit, directory.staging, fails))
    return directory


def test_the_bar_and_the_status_give_one_estimate(out, monkeypatch):
    """Two workers: a long start, then quick units, at last a slow one."""
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    tally = Tally(clock=clock)
    waits = [120.0, 1.0, 2.0, 2.0, 400.0]
    with RunDirectory.create(str(out), FINGERPRINT, manifest="m.jsonl") as directory:
        clock.seconds += 30  # looking at the videos
        events = [started(workers=2), *(done(10, unit=number) for number in range(len(waits)))]
        for event, seconds in zip(events, [0.0, *waits], strict=True):
            clock.seconds += seconds
            directory.write(event)
            tally.add(event)
        clock.seconds += 7
        status = read_status(str(out))
    assert (status.rows_per_second, status.eta_seconds) == (
        tally.rows_per_second,
        tally.eta_seconds,
    )
    assert status.eta_seconds is not None


def edit_attempt(out, **changes):
    path = sorted((out / "attempts").iterdir())[-1]
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_nothing_was_begun(out):
    assert read_status(str(out)).state == "empty"
    out.mkdir()
    status = read_status(str(out))
    assert (status.state, status.num_rows, status.num_left) == ("empty", None, None)
    assert list(out.iterdir()) == []
    (out / "photo.png").touch()
    with pytest.raises(InvalidRequestError, match=r"has no run of groundserve \(photo.png"):
        read_status(str(out))


def test_a_run_that_goes_on(rows, out):
    with half(out, rows, fails=lambda query: query == "q1"):
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
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
        assert (status.manifest, status.fingerprint) == ("m.jsonl", FINGERPRINT.to_json())
        assert json.loads(json.dumps(status.to_json())) == status.to_json()


def test_a_run_whose_driver_is_dead(rows, out):
    half(out, rows).close()
    assert read_status(str(out)).state == "running"  # this process is still there
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        edit_attempt(out, pid=process.pid)
    status = read_status(str(out))
    assert (status.state, status.num_done, status.num_left) == ("stopped", 4, 2)
    assert status.eta_seconds is None


def test_another_process_of_that_number_is_not_the_driver(rows, out):
    half(out, rows).close()
    edit_attempt(out, process="some boot 17")
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


def test_a_finished_run(rows, out):
    run(out, rows, fails=lambda query: query == "q1")
    status = read_status(str(out))
    assert (status.state, status.num_rows, status.num_done) == ("finished", 6, 3)
    assert (status.num_failed, status.num_left) == (3, 0)
    assert status.failures == {"Unreadable": 3}


def test_a_resumed_run_counts_what_was_done_before(rows, out):
    half(out, rows, fails=lambda query: query == "q1").close()
    with half(out, rows):
        status = read_status(str(out))
    # Done: two before, and of the second attempt's three units two, one of which has one row left.
    assert status.attempt == 2
    assert status.num_done == len(final_rows(out))
    assert status.num_done + status.num_left == 6
    assert status.num_failed == 0


def test_a_run_that_was_killed_before_its_first_attempt(rows, out):
    run(out, rows)
    os.remove(out / "attempts" / "0001.json")
    assert read_status(str(out)).state == "stopped"


def test_an_attempt_that_has_not_planned_yet(rows, out):
    run(out, rows[:2])
    with RunDirectory.resume(str(out), FINGERPRINT, manifest="m.jsonl"):
        status = read_status(str(out))
    assert (status.state, status.attempt, status.num_done) == ("running", 2, 2)
    assert (status.num_rows, status.num_left, status.rows_per_second) == (None, None, None)


def test_an_attempt_file_that_was_cut_short(rows, out):
    run(out, rows)
    (out / "attempts" / "0002.json").touch()
    status = read_status(str(out))
    assert (status.state, status.host, status.num_done) == ("silent", None, 6)


def test_an_attempt_file_that_is_removed_meanwhile(rows, out, monkeypatch):
    run(out, rows)
    read = LocalStorage.read

    def remove_first(self, name):
        if name.startswith("attempts/"):
            (out / name).unlink()
        return read(self, name)

    monkeypatch.setattr(LocalStorage, "read", remove_first)
    assert read_status(str(out)).num_done == 6


def test_a_report_while_a_resume_takes_errors_back(rows, out, monkeypatch):
    run(out, rows, fails=lambda query: query == "q1")
    read = LocalStorage.read

    def take_back_first(self, name):
        if name.startswith("errors/"):
            (out / name).rename(out / f"{name}.retried")
        return read(self, name)

    monkeypatch.setattr(LocalStorage, "read", take_back_first)
    assert "cannot answer q1" in Path(write_report(str(out))).read_text()


def test_shards_that_no_journal_knows_are_counted(rows, out):
    run(out, rows)
    (out / "log" / "attempt-0001.jsonl").unlink()
    (out / "scores" / "part-broken.parquet").write_bytes(b"PAR1")
    assert read_status(str(out)).num_done == 6


def test_a_process_is_told_by_when_it_began():
    assert process_mark(os.getpid()) == process_mark(os.getpid()) is not None
    assert process_mark(2**22 + 1) is None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process_mark(process.pid) not in (None, process_mark(os.getpid()))
        process.kill()
        # Dead and not yet waited for.
        for _ in range(500):
            if process_mark(process.pid) is None:
                break
            time.sleep(0.01)
        assert process_mark(process.pid) is None
