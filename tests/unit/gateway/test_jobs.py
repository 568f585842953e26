"""Background jobs: how far they are, their end, and what a restart makes of them."""

from __future__ import annotations

import json
import threading
import tracemalloc
from contextlib import closing
from dataclasses import replace

import pytest

from groundserve import InvalidRequestError, UnavailableError
from groundserve.gateway.jobs import _MAX_TRIES
from groundserve.gateway.keys import add_key
from groundserve.gateway.store import Store
from groundserve.runtime.progress import progress_sender
from tests.unit.gateway.conftest import WAIT_SECONDS, gateway, wait_until

VIDEO = b"a video's bytes"


@pytest.fixture
def held(scripted):
    """What lets the server's answers go."""
    let_go = threading.Event()
    scripted.script = lambda request: wait_until(
        lambda: let_go.is_set() or not request.context.is_active()
    )
    yield let_go
    let_go.set()


def begin(client, **body):
    answer = client.post(
        "/v1/score",
        files={"video": ("a.mp4", VIDEO)},
        data={"query": "a", "options": json.dumps({"background": True, **body})},
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def ended(client, job):
    return wait_until(
        lambda: (told := client.get(f"/v1/jobs/{job}").json())["finished_at"] and told
    )


def events(client, job):
    with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def test_a_job_tells_its_stages_and_its_answer(start, scripted, held):
    client = start(scripted)
    job = begin(client)
    following = events(client, job)
    seen = [next(following)]
    assert scripted.has_asked.wait(WAIT_SECONDS)
    tell = progress_sender(seen[0]["request_id"])
    for num_done in (64, 100):
        tell(num_done, 100)
        while not seen or seen[-1]["frames_done"] != num_done:
            seen.append(next(following))
    assert seen[-1]["num_frames"] == 100
    held.set()
    seen += following
    assert seen[-1]["status"] == "done"
    assert [one["stage"] for one in seen][-2:] == ["running", "done"]
    told = client.get(f"/v1/jobs/{job}")
    assert told.json() == seen[-1]
    sent = client.post("/v1/score", files={"video": ("a.mp4", VIDEO)}, data={"query": "a"})
    alike = sent.text.replace(sent.headers["x-request-id"], told.json()["request_id"])
    assert f'"result": {alike}}}' in told.text  # to the bit
    assert client.get("/v1/videos").json() == {"videos": []}
    assert list(client.server.app.state.gateway.spool.videos_dir.iterdir()) == []


def test_a_job_that_fails_has_one_error(start, scripted):
    def refuse(request):
        raise InvalidRequestError("QUERY[0] must be another")

    scripted.script = refuse
    client = start(scripted)
    told = ended(client, begin(client))
    assert told["status"] == "failed"
    assert told["error"] == {
        "type": "InvalidRequestError",
        "message": "queries[0] must be another",  # as the caller has it, not Triton
    }


def test_deleting_a_job_ends_its_work(start, scripted, held):
    client = start(scripted)
    job = begin(client)
    assert scripted.has_asked.wait(WAIT_SECONDS)
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    wait_until(lambda: not scripted.requests[0].context.is_active())
    assert client.get(f"/v1/jobs/{job}").status_code == 404
    assert list(client.server.app.state.gateway.spool.videos_dir.iterdir()) == []


def test_jobs_go_on_after_restarts(tmp_path, scripted, held):
    with gateway(tmp_path, scripted, max_running_jobs=1) as client:
        jobs = [begin(client) for _ in range(3)]
        assert scripted.has_asked.wait(WAIT_SECONDS)
    for _ in range(_MAX_TRIES):
        num_before = len(scripted.requests)
        with gateway(tmp_path, scripted, max_running_jobs=1):
            wait_until(lambda n=num_before: len(scripted.requests) > n)
    held.set()
    with gateway(tmp_path, scripted) as client:
        assert [ended(client, job)["status"] for job in jobs] == ["done"] * 3


def test_a_job_that_ends_the_gateway_each_time_is_given_up(tmp_path, scripted):
    with gateway(tmp_path) as client:
        job = begin(client)
        store = client.server.app.state.gateway.spool.store
        wait_until(lambda: store.jobs(id=job)[0].status == "running")
    with closing(Store(tmp_path / "spool" / "gateway.sqlite3")) as store:
        store.update_job(job, num_tries=_MAX_TRIES)
    with gateway(tmp_path, scripted) as client:
        assert ended(client, job)["error"]["type"] == UnavailableError.__name__


def test_a_list_of_jobs_reads_no_results(start, scripted):
    client = start(scripted)
    (job,) = ids = [begin(client)]
    ended(client, job)
    store = client.server.app.state.gateway.spool.store
    (row,) = store.jobs(id=job)
    for number in range(50):
        ids.append(f"job-{number}")
        store.add(replace(row, id=ids[-1], result="x" * 10**6))
    tracemalloc.start()
    told = client.get("/v1/jobs").json()["jobs"]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {one["id"] for one in told} == set(ids)
    assert most < 10 * 10**6


def test_a_job_that_is_not_taken_holds_nothing(start, scripted, tmp_path, monkeypatch):
    key = add_key(tmp_path / "keys", "anna")
    client = start(scripted, keys_file=tmp_path / "keys", key=key)
    monkeypatch.setattr("groundserve.gateway.jobs._MAX_UNDER_WAY", 0)
    body = {"background": True, "queries": ["a"]}
    for more in (
        {"json": {**body, "video_url": "https://a.example/"}},
        {"files": {"video": VIDEO}},
    ):
        data = {"options": json.dumps(body)} if "files" in more else None
        refused = client.post("/v1/score", **more, data=data)
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "UnavailableError")
    desk = client.server.app.state.gateway
    assert desk.access.owner(key).num_at_work == 0
    assert list(desk.spool.videos_dir.iterdir()) == []


def test_a_key_has_so_many_jobs_at_one_time(start, tmp_path, scripted, held):
    key = add_key(tmp_path / "keys", "anna", max_jobs=2)
    client = start(scripted, keys_file=tmp_path / "keys", key=key)
    jobs = [begin(client) for _ in range(2)]
    refused = client.post("/v1/score", json={"video_id": "x", "queries": ["a"]})
    assert refused.status_code == 429
    held.set()
    for job in jobs:
        ended(client, job)
    assert client.post("/v1/score", json={"video_id": "x", "queries": ["a"]}).status_code == 404


def test_jobs_that_begin_again_count_among_them(tmp_path, scripted, held):
    key = add_key(tmp_path / "keys", "anna", max_jobs=2)
    given = {"keys_file": tmp_path / "keys", "key": key}
    with gateway(tmp_path, scripted, **given) as client:
        jobs = [begin(client) for _ in range(2)]
    with gateway(tmp_path, scripted, **given) as client:
        refused = client.post("/v1/score", json={"video_id": "x", "queries": ["a"]})
        assert refused.status_code == 429
        held.set()
        assert [ended(client, job)["status"] for job in jobs] == ["done"] * 2


def test_a_key_follows_so_many_jobs_at_one_time(start, tmp_path, scripted, held):
    """Each is a connection that nobody else has meanwhile."""
    key = add_key(tmp_path / "keys", "anna", max_jobs=2)
    client = start(scripted, keys_file=tmp_path / "keys", key=key)
    job = begin(client)
    following = [events(client, job) for _ in range(2)]
    for one in following:
        next(one)
    assert client.get(f"/v1/jobs/{job}/events").status_code == 429
    held.set()
    for one in following:
        assert list(one)[-1]["status"] == "done"
    assert client.get(f"/v1/jobs/{job}/events").status_code == 200
