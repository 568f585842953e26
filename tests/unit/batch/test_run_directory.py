"""A run directory over its attempts: what is done stays, what failed is tried again."""

import dataclasses
import errno
import json
import os
import shutil

import pytest

from groundserve.batch.done_rows import DoneRows
from groundserve.batch.errors import ErrorKind, Failure, RunDirectoryError
from groundserve.batch.plan import Plan
from groundserve.batch.run_directory import RunDirectory
from groundserve.batch.shards import Staging
from groundserve.batch.units import UnitSize
from groundserve.errors import GroundserveError, InvalidRequestError, UnavailableError
from groundserve.options import ScoreOptions
from tests.unit.batch.making import FINGERPRINT, final_rows, make_corpus, run, work


@pytest.fixture
def rows(tmp_path):
    return make_corpus(tmp_path / "videos", num_videos=3, num_queries=2)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def fails_q1(query):
    return query == "q1"


def files(out):
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def shards(out):
    return sorted((out / "scores").glob("*.parquet"))


def open_run(out, fingerprint=FINGERPRINT):
    return RunDirectory.resume(str(out), fingerprint, manifest="m.jsonl")


def test_each_row_once(rows, out):
    run(out, rows, is_resume=False)
    found = final_rows(out)
    assert sorted(found) == sorted(row.id for row in rows)
    one = found["q1/2"]
    assert (one["video"], one["query"], one["error_kind"]) == ("2.mp4", "q1", None)
    assert one["selected_frames"] == [0, 10, 20, 30, 40]
    assert json.loads(one["options"])["top_k"] == 32
    assert "staging" not in os.listdir(out)


def test_errors_stand_beside_the_answers_and_success_replaces_them(rows, out):
    run(out, rows, fails=fails_q1)
    found = final_rows(out)
    assert sorted(found) == sorted(row.id for row in rows)
    failed = {id: row["error_kind"] for id, row in found.items() if row["error_kind"]}
    assert failed == dict.fromkeys(["q1/0", "q1/1", "q1/2"], "Unreadable")
    assert found["q1/0"]["error_message"] == "cannot answer q1"
    assert found["q1/0"]["frame_scores"] is None
    run(out, rows)
    assert not any(row["error_kind"] for row in final_rows(out).values())
    assert not list((out / "errors").iterdir())


def test_resumed_run_equals_an_uninterrupted_one(rows, out, tmp_path):
    run(out, rows[:4], fails=fails_q1)
    run(out, rows)  # the manifest has grown, too
    run(tmp_path / "other", rows)
    assert final_rows(out) == final_rows(tmp_path / "other")
    records = [(place / "records.jsonl").read_bytes() for place in (out, tmp_path / "other")]
    assert records[0] == records[1]


def test_a_resume_that_is_refused_changes_nothing(rows, out):
    run(out, rows, fails=fails_q1)
    before = final_rows(out)
    edited = [dataclasses.replace(rows[0], query="other"), *rows[1:]]
    with pytest.raises(InvalidRequestError, match="now asks something else"):
        run(out, edited)
    assert final_rows(out) == before


def test_errors_stay_until_there_is_an_answer(rows, out):
    run(out, rows, fails=fails_q1)
    before = final_rows(out)
    with (
        open_run(out) as directory,
        Plan.make(rows, fingerprint=FINGERPRINT, done=directory.done()) as plan,
    ):
        failed, other, _ = plan.units(UnitSize(max_groups=1))
        directory.publish(work(failed, directory.staging, fails_q1))
        assert final_rows(out) == before
        directory.publish(work(other, directory.staging))
        assert len(final_rows(out)) == 3 + 1


def test_what_is_done_is_not_done_again(rows, out):
    run(out, rows)
    before = {path: path.stat().st_mtime_ns for path in shards(out)}

    def never(query):
        raise AssertionError(query)

    run(out, rows, fails=never)
    assert {path: path.stat().st_mtime_ns for path in shards(out)} == before


def test_a_row_is_tried_as_often_as_it_may(rows, out):
    tried = []

    def fails(query):
        tried.append(query)
        return query == "q1"

    for _ in range(4):
        run(out, rows, fails=fails, max_attempts=2)
    assert tried.count("q1") == 2 * 3
    assert tried.count("q0") == 3
    found = final_rows(out)
    assert [row["error_kind"] for row in found.values()] == [None] * 3 + ["Unreadable"] * 3
    run(out, rows, max_attempts=3)
    assert not any(row["error_kind"] for row in final_rows(out).values())


def test_a_shard_that_was_damaged_is_set_aside_and_computed_anew(rows, out, tmp_path):
    run(tmp_path / "other", rows)
    for damage in (lambda data: data[:-1], lambda data: data[:60] + b"\0" + data[61:]):
        run(out, rows)
        path = shards(out)[0]
        path.write_bytes(damage(path.read_bytes()))
        (said,) = run(out, rows)
        assert said.startswith(f"scores/{path.name} was set aside, its rows are computed anew")
        assert "not those that were written" in said
        assert final_rows(out) == final_rows(tmp_path / "other")
        assert path.with_name(path.name + ".damaged").exists()


def test_a_shard_that_is_no_parquet_is_set_aside(rows, out):
    run(out, rows)
    (out / "scores" / "part-x.parquet").write_bytes(b"")
    (said,) = run(out, rows)
    assert said.startswith("scores/part-x.parquet was set aside")
    assert len(final_rows(out)) == len(rows)


def test_a_shard_with_rows_of_another_is_set_aside(rows, out):
    """As two drivers of an object store without locks could leave it."""
    run(out, rows)
    with Plan.make(rows, fingerprint=FINGERPRINT) as plan:
        (unit,) = plan.units(UnitSize())
    with open_run(out) as directory:
        directory.publish(work(unit, directory.staging))
    said = run(out, rows)
    assert said  # of the one or the others, whichever come later by name
    assert all("rows of it are in another file, too" in one for one in said)
    assert len(final_rows(out)) == len(rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"precision": "int8"}, "precision: fp32 before, int8 now"),
        ({"engine_id": "f"}, f"--server): {'e' * 64} before, f now"),
        ({"span_threshold": 0.25}, "--span-threshold: 0.5 before, 0.25 now"),
        ({"hash_content": True}, "--hash-content: False before, True now"),
        ({"defaults": ScoreOptions(top_k=8)}, "--top-k: 32 before, 8 now"),
        ({"version": "9.0.0"}, "version of groundserve: 0.1.0 before, 9.0.0 now"),
    ],
)
def test_another_run_is_refused_by_what_differs(rows, out, change, said):
    run(out, rows)
    before = files(out)
    with pytest.raises(InvalidRequestError, match="answers of two must not be mixed") as caught:
        open_run(out, dataclasses.replace(FINGERPRINT, **change))
    assert said in str(caught.value)
    assert files(out) == before


def test_a_run_that_is_there_is_not_begun_anew(rows, out):
    run(out, rows)
    with pytest.raises(InvalidRequestError, match="has a run; go on with --resume"):
        run(out, rows, is_resume=False)


def test_a_folder_with_something_else_is_left_as_it_is(out):
    out.mkdir()
    (out / "photo.png").touch()
    for begin in (RunDirectory.create, RunDirectory.resume):
        with pytest.raises(InvalidRequestError, match=r"not empty \(photo.png is in it\)"):
            begin(str(out), FINGERPRINT, manifest="m")
    assert files(out) == ["photo.png"]


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"fingerprint": {"defaults": {}}}'])
def test_anothers_run_json_is_refused(out, text):
    out.mkdir()
    (out / "run.json").write_text(text)
    with pytest.raises(InvalidRequestError, match=r"name another folder|another version"):
        open_run(out)


def test_a_file_is_no_folder(out):
    out.touch()
    with pytest.raises(InvalidRequestError, match=r"cannot write to .*out.*; name another folder"):
        open_run(out)


def test_a_disk_that_may_not_be_written_to(out, monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(InvalidRequestError, match=r"cannot write to .*: Read-only file system"):
        open_run(out)


def test_two_drivers_do_not_share_a_folder(rows, out):
    with open_run(out), pytest.raises(UnavailableError, match="another process works on"):
        open_run(out)
    run(out, rows)
    assert len(final_rows(out)) == len(rows)


def test_a_driver_that_was_overtaken_publishes_nothing_more(rows, out, monkeypatch):
    """Where there are no locks, as in an object store or on some network file systems."""
    monkeypatch.setattr("fcntl.flock", lambda *args: (_ for _ in ()).throw(OSError("no locks")))
    with (
        open_run(out) as old,
        Plan.make(rows, fingerprint=FINGERPRINT) as plan,
    ):
        unit, other, _ = plan.units(UnitSize(max_groups=1))
        receipt = work(unit, old.staging)
        old.publish(receipt)
        staged = work(other, old.staging)
        run(out, rows)
        with pytest.raises(RunDirectoryError, match="attempt 2 has begun"):
            old.publish(staged)
        with pytest.raises(RunDirectoryError, match=r"rows were planned|attempt 2 has begun"):
            old.finish(plan)
    assert len(final_rows(out)) == len(rows)


def test_a_driver_whose_directory_holds_another_run_publishes_nothing_more(rows, out):
    """Both count their attempts from 1, and the lock went with the folder."""
    with (
        open_run(out) as old,
        Plan.make(rows, fingerprint=FINGERPRINT) as plan,
    ):
        unit, *_ = plan.units(UnitSize(max_groups=1))
        shutil.rmtree(out)
        staged = work(unit, old.staging)
        with pytest.raises(RunDirectoryError, match="was removed or replaced while attempt 1"):
            old.publish(staged)
        shutil.rmtree(out)
        with open_run(out, dataclasses.replace(FINGERPRINT, precision="int8")):
            staged = work(unit, old.staging)
            with pytest.raises(RunDirectoryError, match="was removed or replaced while attempt 1"):
                old.publish(staged)
            assert not final_rows(out)


def test_no_room_for_what_is_done(rows, out, monkeypatch):
    rows = [dataclasses.replace(rows[0], id="x" * 9999)]
    run(out, rows)
    limited = DoneRows.__init__

    def limit(self):
        limited(self)
        self._db.execute("PRAGMA max_page_count = 1")

    monkeypatch.setattr(DoneRows, "__init__", limit)
    with pytest.raises(GroundserveError, match=r"cannot keep the rows that are done in .*TMPDIR"):
        open_run(out)
    monkeypatch.undo()
    run(out, rows)


def test_no_room_for_why_rows_failed(rows):
    with Plan.make(rows, fingerprint=FINGERPRINT) as plan:
        plan._db.execute("PRAGMA max_page_count = 1")
        why = Failure(
            id=rows[0].id, row_key="", kind=ErrorKind.UNREADABLE, message="because " * 9999
        )
        with pytest.raises(GroundserveError, match=r"cannot keep the plan in .*TMPDIR"):
            plan.mark_failed([why])


def test_a_staged_file_that_is_not_the_workers(rows, out):
    with (
        open_run(out) as directory,
        Plan.make(rows, fingerprint=FINGERPRINT) as plan,
    ):
        unit, other, _ = plan.units(UnitSize(max_groups=1))
        receipt = work(unit, directory.staging)
        (out / receipt.staged).write_bytes(b"short")
        with pytest.raises(RunDirectoryError, match=f"must have {receipt.num_bytes} bytes, got 5"):
            directory.publish(receipt)
        elsewhere = work(other, Staging(place=str(out / "../elsewhere"), attempt=1))
        with pytest.raises(RunDirectoryError, match="is gone; it must be a folder that all"):
            directory.publish(elsewhere)


def test_a_row_that_nobody_told_of_is_missed(rows, out):
    with (
        open_run(out) as directory,
        Plan.make(rows, fingerprint=FINGERPRINT) as plan,
    ):
        unit, *_ = plan.units(UnitSize(max_groups=1))
        directory.publish(work(unit, directory.staging))
        with pytest.raises(RunDirectoryError, match="6 rows were planned, 2 have an answer and 0"):
            directory.finish(plan)


def test_rows_whose_worker_died(rows, out):
    with (
        open_run(out) as directory,
        Plan.make(rows, fingerprint=FINGERPRINT) as plan,
    ):
        lost, *units = plan.units(UnitSize(max_groups=1))
        for unit in units:
            directory.publish(work(unit, directory.staging))
        (group,) = lost.groups
        directory.fail(
            [
                Failure(id=row.id, row_key=key, kind=ErrorKind.WORKER_DIED, message="it died")
                for row, key in zip(group.rows, group.keys, strict=True)
            ]
        )
        finished = directory.finish(plan)
    assert (finished.num_done, finished.num_failed) == (4, 2)
    assert finished.failures == {"WorkerDied": 2}
    errors = [row for row in final_rows(out).values() if row["error_kind"]]
    assert [row["error_message"] for row in errors] == ["it died"] * 2


def test_an_attempt_file_that_was_cut_short_still_counts(rows, out):
    run(out, rows)
    (out / "attempts" / "0002.json").touch()
    with open_run(out) as directory:
        assert directory.attempt == 3


def test_a_full_disk_is_said_and_the_run_goes_on_later(rows, out, tmp_path, monkeypatch):
    real = os.fsync

    def full(descriptor):
        if "scores" in os.listdir(out):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(RunDirectoryError, match=r"cannot write .*: No space left on device"):
            run(out, rows)
    assert not [name for name in files(out) if "partial" in name]
    run(out, rows)
    run(tmp_path / "other", rows)
    assert final_rows(out) == final_rows(tmp_path / "other")
