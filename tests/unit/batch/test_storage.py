"""Two file systems, one behaviour: a folder of this machine, and a store through fsspec."""

import os

import fsspec
import pytest

from groundserve.batch.plan import Plan
from groundserve.batch.run_directory import RunDirectory
from groundserve.batch.shards import SCORES, read_shard
from groundserve.batch.status import read_status
from groundserve.errors import InvalidRequestError
from groundserve.storage import RunDirectoryError, open_storage
from tests.unit.batch.making import FINGERPRINT, make_corpus, run, work


@pytest.fixture(params=["local", "remote"])
def storage(request, tmp_path):
    place = str(tmp_path / "run")
    if request.param == "remote":
        place = f"memory:/{tmp_path}"
    storage = open_storage(place)
    storage.make()
    yield storage
    storage.delete("")


def test_a_file_that_is_written_appears_at_the_end(storage):
    with storage.writing("log/a") as file:
        file.write(b"1")
        file.flush()
        assert "a" not in storage.names("log")
    assert storage.read("log/a") == b"1"
    with pytest.raises(ZeroDivisionError), storage.writing("log/b") as file:
        file.write(b"%d" % (1 / len([])))
    assert storage.names("log") == ["a"]


def rows_in(place):
    storage = open_storage(place)
    return sorted(
        row["id"]
        for name in storage.names(SCORES)
        if name.endswith(".parquet")
        for row in read_shard(storage, f"{SCORES}/{name}", ["id"]).to_pylist()
    )


def test_a_run_in_a_store(tmp_path):
    """All of it: published, resumed, errors taken back, and the journal in pieces."""
    rows = make_corpus(tmp_path / "videos", num_videos=2, num_queries=2)
    place = f"memory:/{tmp_path}/run"
    storage = open_storage(place)
    run(place, rows, fails=lambda query: query == "q1", is_resume=False)
    assert rows_in(place) == ["q0/0", "q0/1"]
    (errors,) = storage.names("errors")
    assert len(read_shard(storage, f"errors/{errors}", ["id"])) == 2
    assert storage.names("log") == ["attempt-0001-000000.jsonl", "attempt-0001-000001.jsonl"]
    status = read_status(place)
    assert (status.state, status.num_done, status.num_failed) == ("finished", 2, 2)
    run(place, rows)
    assert rows_in(place) == sorted(row.id for row in rows)
    assert storage.names("errors") == []
    assert storage.read("records.jsonl").count(b"\n") == 4
    local = tmp_path / "local"
    run(local, rows)
    assert storage.read("records.jsonl") == (local / "records.jsonl").read_bytes()


def test_the_newest_of_two_drivers_wins_in_a_store(tmp_path):
    rows = make_corpus(tmp_path / "videos", num_videos=2, num_queries=1)
    place = f"memory:/{tmp_path}/run"
    with (
        RunDirectory(place, FINGERPRINT, manifest="m", is_resumed=True) as old,
        Plan.make(rows, fingerprint=FINGERPRINT) as plan,
    ):
        first, second = plan.groups()
        old.publish([work(first)])
        run(place, rows)
        with pytest.raises(RunDirectoryError, match=r"attempt 2 has begun in memory://.*"):
            old.publish([work(second)])
    assert rows_in(place) == sorted(row.id for row in rows)


class Killed(BaseException):
    pass


def test_killed_before_each_call_of_a_store(tmp_path, monkeypatch):
    """A copy and a removal in place of a renaming: each row is there once at most all the same."""
    rows = make_corpus(tmp_path / "videos", num_videos=2, num_queries=1)
    calls = {"left": 10**6}
    for name in ("pipe_file", "cp_file", "rm_file", "put_file", "rm"):
        real = getattr(type(fsspec.filesystem("memory")), name)

        def counted(self, *args, real=real, **options):
            if calls["left"] == 0:
                raise Killed
            calls["left"] -= 1
            return real(self, *args, **options)

        monkeypatch.setattr(type(fsspec.filesystem("memory")), name, counted)
    run(f"memory:/{tmp_path}/whole", rows)
    num_calls = 10**6 - calls["left"]
    assert num_calls > 5
    for number in range(num_calls):
        place = f"memory:/{tmp_path}/{number}"
        calls["left"] = number
        with pytest.raises(Killed):
            run(place, rows)
        calls["left"] = 10**6
        found = rows_in(place)
        assert len(set(found)) == len(found)
        run(place, rows)
        assert rows_in(place) == ["q0/0", "q0/1"]


def test_a_store_that_refuses_is_named(tmp_path, monkeypatch):
    class StoreError(Exception):
        """As some clients have them, of no class of ours or Python's."""

    def refuse(self, *args, **options):
        raise StoreError("Access Denied")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "pipe_file", refuse)
    with pytest.raises(InvalidRequestError, match=r"Access Denied; name another folder"):
        RunDirectory(f"memory:/{tmp_path}/run", FINGERPRINT, manifest="m", is_resumed=False)
    assert os.listdir(tmp_path) == []
