"""Background jobs: how far they are, their end, and what a restart makes of them."""

from __future__ import annotations

import json
import threading

import pytest

from groundserve import InvalidRequestError, UnavailableError
from groundserve.gateway.keys import add_key
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


def test_jobs_go_on_after_a_restart(tmp_path, scripted, held):
    with gateway(tmp_path, scripted, max_running_jobs=1) as client:
        jobs = [begin(client) for _ in range(3)]
        assert scripted.has_asked.wait(WAIT_SECONDS)
    held.set()
    with gateway(tmp_path, scripted) as client:
        assert [ended(client, job)["status"] for job in jobs] == ["done"] * 3


def test_a_job_that_ends_the_gateway_each_time_is_given_up(tmp_path, scripted):
    with gateway(tmp_path) as client:
        job = begin(client)
        store = client.server.app.state.gateway.spool.store
        wait_until(lambda: store.jobs(id=job)[0].status == "running")
        store.update_job(job, num_tries=5)
    with gateway(tmp_path, scripted) as client:
        assert ended(client, job)["error"]["type"] == UnavailableError.__name__


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
