"""A run directory over its attempts: what is done stays, what failed is tried again."""

import dataclasses
import errno
import os
import shutil

import pytest

from groundserve.batch.plan import Plan
from groundserve.batch.run_directory import RunDirectory
from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.storage import RunDirectoryError
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
    return RunDirectory(str(out), fingerprint, manifest="m.jsonl", is_resumed=True)


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


def test_a_resume_that_is_refused_changes_nothing(rows, out):
    run(out, rows, fails=fails_q1)
    before = final_rows(out)
    edited = [dataclasses.replace(rows[0], query="other"), *rows[1:]]
    with pytest.raises(InvalidRequestError, match="now asks something else"):
        run(out, edited)
    assert final_rows(out) == before


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


def test_a_shard_with_rows_of_another_is_set_aside(rows, out):
    """As two drivers of an object store without locks could leave it."""
    run(out, rows)
    with Plan.make(rows, fingerprint=FINGERPRINT) as plan:
        unit = work(*plan.groups())
    with open_run(out) as directory:
        directory.publish([unit])
    said = run(out, rows)
    assert said  # of the one or the others, whichever come later by name
    assert all("rows of it are in another file, too" in one for one in said)
    assert len(final_rows(out)) == len(rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"precision": "int8"}, "precision: fp32 before, int8 now"),
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


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"fingerprint": {"defaults": {}}}'])
def test_anothers_run_json_is_refused(out, text):
    out.mkdir()
    (out / "run.json").write_text(text)
    with pytest.raises(InvalidRequestError, match=r"name another folder|another version"):
        open_run(out)


def test_two_drivers_do_not_share_a_folder(rows, out):
    with open_run(out), pytest.raises(UnavailableError, match="another process works on"):
        open_run(out)
    run(out, rows)
    assert len(final_rows(out)) == len(rows)


def test_a_driver_whose_directory_holds_another_run_publishes_nothing_more(rows, out):
    """Both count their attempts from 1, and the lock went with the folder."""
    with (
        open_run(out) as old,
        Plan.make(rows, fingerprint=FINGERPRINT) as plan,
    ):
        unit = work(*plan.groups())
        shutil.rmtree(out)
        with pytest.raises(RunDirectoryError, match="was removed or replaced while attempt 1"):
            old.publish([unit])
        with open_run(out, dataclasses.replace(FINGERPRINT, precision="int8")):
            with pytest.raises(RunDirectoryError, match="was removed or replaced while attempt 1"):
                old.publish([unit])
            assert not final_rows(out)


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
