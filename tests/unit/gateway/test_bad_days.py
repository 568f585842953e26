"""A disk that is full, a store that is locked or broken, callers who read slowly."""

from __future__ import annotations

import os
import sqlite3

import pytest

from groundserve import InvalidRequestError
from groundserve.gateway.keys import add_key
from tests.unit.gateway.conftest import wait_until
from tests.unit.gateway.test_jobs import VIDEO, begin, ended
from tests.unit.gateway.test_leaving import connect


def fill(client, *, is_full=True):
    """Have the gateway's store refuse to write, or take it back."""
    rows = client.server.app.state.gateway.spool.store._rows
    rows.execute(f"PRAGMA query_only = {int(is_full)}")


def test_a_full_disk_is_told_as_such_and_leaves_no_half(start, scripted):
    client = start(scripted)
    spool = client.server.app.state.gateway.spool
    video = client.post("/v1/videos", content=VIDEO).json()["id"]
    fill(client)
    body = {"video_id": video, "queries": ["a"]}
    for answer in (
        client.post("/v1/videos", content=VIDEO),
        client.post("/v1/score", json={**body, "background": True}),
    ):
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "UnavailableError")
        assert answer.headers["retry-after"]
    assert client.get(f"/v1/videos/{video}").status_code == 200
    assert client.post("/v1/score", json=body).status_code == 200
    assert [path.name for path in spool.videos_dir.iterdir()] == [video]
    fill(client, is_full=False)
    assert client.get(f"/v1/videos/{video}").status_code == 200


def test_a_video_whose_file_is_gone_is_not_there(start, scripted):
    client = start(scripted)
    video = client.post("/v1/videos", content=VIDEO).json()["id"]
    (client.server.app.state.gateway.spool.videos_dir / video).unlink()
    answer = client.post("/v1/score", json={"video_id": video, "queries": ["a"]})
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "NotFoundError")
    assert not scripted.requests


def test_a_video_gives_its_bytes_back_before_its_row_goes(start, scripted):
    client = start(scripted)
    spool = client.server.app.state.gateway.spool
    video = client.post("/v1/videos", content=VIDEO).json()["id"]
    fill(client)
    assert client.delete(f"/v1/videos/{video}").status_code == 503
    assert not list(spool.videos_dir.iterdir())
    fill(client, is_full=False)
    assert client.delete(f"/v1/videos/{video}").status_code == 204


def test_nobody_else_reads_the_store(start, tmp_path):
    (tmp_path / "spool").mkdir(mode=0o755)
    start().post("/v1/videos", content=VIDEO)
    files = [path for path in (tmp_path / "spool").iterdir() if path.is_file()]
    assert {path.suffix for path in files} > {".sqlite3", ".sqlite3-wal"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_expiry_goes_on_after_a_failure(start, scripted, monkeypatch):
    monkeypatch.setattr("groundserve.gateway.app._EXPIRE_SECONDS", 0.01)
    client = start(scripted, max_age_seconds=0.001)
    store, failed = client.server.app.state.gateway.spool.store, []

    def expire_jobs(**values):
        failed.append(values)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store, "expire_jobs", expire_jobs)
    wait_until(lambda: failed)
    client.post("/v1/videos", content=VIDEO)
    wait_until(lambda: not client.get("/v1/videos").json()["videos"])


def test_a_job_whose_end_cannot_be_kept_ends_later(start, scripted, monkeypatch):
    monkeypatch.setattr("groundserve.gateway.jobs._AGAIN_SECONDS", 0.01)
    client = start(scripted)
    store = client.server.app.state.gateway.spool.store
    update, refused = store.update_job, []

    def update_job(job_id, **values):
        if "finished_at" in values and len(refused) < 2:
            refused.append(values)
            raise sqlite3.OperationalError("database or disk is full")
        update(job_id, **values)

    monkeypatch.setattr(store, "update_job", update_job)
    told = ended(client, begin(client))
    assert told["status"] == "done"
    assert len(refused) == 2


def test_nobody_else_locks_the_store(start, scripted, tmp_path):
    client = start(scripted)
    other = sqlite3.connect(tmp_path / "spool" / "gateway.sqlite3", timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()
    assert client.post("/v1/videos", content=VIDEO).status_code == 201


def test_a_store_that_is_none_is_named(start, tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "gateway.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(InvalidRequestError, match="not a database"):
        start()


def test_an_answer_is_read_as_slowly_as_the_caller_can(start, scripted, monkeypatch):
    client = start(scripted, head_seconds=0.02)
    desk = client.server.app.state.gateway
    video = client.post("/v1/videos", content=VIDEO).json()["id"]
    picture = os.urandom(1024) * 32 * 1024

    async def make(owner, path, make):
        return [picture]

    monkeypatch.setattr(desk.pictures, "make", make)
    with connect(client) as connection:
        connection.sendall(
            f"GET /v1/videos/{video}/frames/0.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        connections = client.server._server.server_state.connections
        mine = connection.getsockname()
        (here,) = wait_until(lambda: [one for one in connections if one.client == mine])
        wait_until(lambda: here.transport.get_write_buffer_size())
        timers = set()
        wait_until(lambda: timers.add(here._timer) or len(timers) > 3)
        with connection.makefile("rb") as answer:
            while answer.readline() != b"\r\n":
                pass
            assert answer.read(len(picture)) == picture


def test_no_redirect_to_a_host_that_the_caller_names(start, scripted, tmp_path):
    key = add_key(tmp_path / "keys.jsonl", "anna")
    client = start(scripted, keys_file=tmp_path / "keys.jsonl", key=key)
    answer = client.get("/v1/videos/", headers={"host": "evil.example"})
    assert answer.status_code == 404


def test_without_keys_no_web_page_reaches_it_under_a_name_of_its_own(start, scripted):
    client = start(scripted)
    names = ["localhost:8080", "127.0.0.1", "evil.example", "127.0.0.1.evil.example:8080"]
    told = [client.get("/v1/videos", headers={"host": name}).status_code for name in names]
    assert told == [200, 200, 400, 400]


def test_keys_are_read_again_though_the_clock_stood_still(start, scripted, tmp_path):
    keys = tmp_path / "keys.jsonl"
    key = add_key(keys, "anna")
    client = start(scripted, keys_file=keys, key=key)
    assert client.get("/v1/models").status_code == 200
    before = keys.stat()
    other = add_key(keys, "berta")
    os.utime(keys, ns=(before.st_atime_ns, before.st_mtime_ns))
    answer = client.get("/v1/models", headers={"authorization": f"Bearer {other}"})
    assert answer.status_code == 200
