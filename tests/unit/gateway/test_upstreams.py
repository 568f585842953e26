"""Several servers: which is asked, what happens when one ends, and who waits."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from groundserve import MediaError, UnavailableError
from groundserve.triton_messages import DECODER_DIED
from tests.support.scripted_server import ScriptedServer
from tests.unit.gateway.conftest import WAIT_SECONDS, wait_until


@pytest.fixture
def pair():
    with ScriptedServer() as one, ScriptedServer() as other:
        yield [one, other]


def store(client, content=b"a video's bytes"):
    return client.post("/v1/videos", content=content).json()["id"]


def score(client, video, **body):
    return client.post("/v1/score", json={"video_id": video, "queries": ["a"], **body})


def test_a_video_has_a_server_of_its_own_and_videos_are_spread(start, pair):
    client = start(*pair)
    videos = [store(client, b"%d" % number) for number in range(12)]
    for _ in range(2):
        for video in videos:
            assert score(client, video).status_code == 200
    asked = [[request.uri for request in server.requests] for server in pair]
    assert all(asked)
    assert not set(asked[0]) & set(asked[1])


def test_what_a_server_did_not_answer_another_does(start, pair):
    client = start(*pair)
    video = store(client)
    assert score(client, video).status_code == 200
    owner = next(server for server in pair if server.requests)
    owner.__exit__()
    assert score(client, video).status_code == 200
    assert client.get("/readyz").status_code == 200


def test_overload_of_one_goes_to_another_and_a_bad_video_does_not(start, pair):
    errors = [UnavailableError("the server has too many requests; try again")]

    def fail(request):
        if errors:
            raise errors.pop()

    for server in pair:
        server.script = fail
    client = start(*pair)
    video = store(client)
    assert score(client, video).status_code == 200
    assert [len(server.requests) for server in pair] == [1, 1]
    errors += [UnavailableError(f"{DECODER_DIED}; send another")] * 2
    answer = score(client, video)
    assert answer.status_code == 503
    assert len(errors) == 1
    errors[:] = [MediaError("the video has no frames")]
    answer = score(client, video)
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        {"type": "MediaError", "message": "the video has no frames"},
    )


def test_without_a_server_it_says_so_and_no_more(start):
    with ScriptedServer() as server:
        client = start(server)
        video = store(client)
    wait_until(lambda: client.get("/readyz").status_code == 503)
    client.server.app.state.gateway.upstreams.patience_seconds = 0.1
    answer = score(client, video, timeout_seconds=0.5)
    assert answer.status_code in (503, 504)
    assert "127.0.0.1" not in answer.text
    assert client.get("/v1/models").json()["data"] == []
    with ScriptedServer(port=server.port):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert score(client, video).status_code == 200


def test_the_queue_is_bounded(start, scripted):
    let_go = threading.Event()
    scripted.script = lambda request: let_go.wait(WAIT_SECONDS)
    client = start(scripted, max_running=1, max_waiting=1)
    video = store(client)
    upstreams = client.server.app.state.gateway.upstreams
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(score, client, video)
        assert scripted.has_asked.wait(WAIT_SECONDS)
        second = pool.submit(score, client, video)
        wait_until(lambda: upstreams.num_waiting == 1)
        refused = score(client, video)
        let_go.set()
        assert [one.result().status_code for one in (first, second)] == [200, 200]
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert refused.json()["error"]["type"] == "UnavailableError"


def test_a_switch_fails_nothing(start, pair):
    old, new = pair
    let_go = threading.Event()
    old.script = lambda request: let_go.wait(WAIT_SECONDS)
    client = start(old)
    video = store(client)
    upstreams = client.server.app.state.gateway.upstreams
    with ThreadPoolExecutor(2) as pool:
        begun = pool.submit(score, client, video)
        assert old.has_asked.wait(WAIT_SECONDS)
        client.server.add(new.url)
        draining = pool.submit(client.server.drain, old.url)
        wait_until(lambda: any(one.is_draining for one in upstreams.all))
        assert score(client, video).status_code == 200
        assert len(new.requests) == 1
        assert not draining.done()
        let_go.set()
        assert begun.result().status_code == 200
        draining.result()
    assert [one.url for one in upstreams.all] == [new.url]


def test_who_asks_for_what_no_server_has_is_told(start, scripted):
    client = start(scripted)
    video = store(client)
    unknown = score(client, video, model="another")
    assert unknown.status_code == 404
    assert score(client, video, model="videoitg").status_code == 200
    scripted.families = ("videoitg",)
    upstreams = client.server.app.state.gateway.upstreams
    for upstream in upstreams.all:
        upstream.families = ("videoitg",)
    asked = client.post("/v1/ask", json={"video_id": video, "queries": ["a"]})
    assert asked.status_code == 422
    assert asked.json()["error"]["type"] == "UnsupportedError"


def test_a_place_given_to_who_has_left_goes_on(scripted):
    """One is cancelled in the moment it gets a place; the place is not lost."""
    from groundserve.gateway.upstreams import Upstreams, Wanted

    async def main():
        upstreams = Upstreams((scripted.url,), max_running=1, max_waiting=9)
        upstreams.open()
        (upstream,) = upstreams.all
        await upstream.became_ready.wait()
        wanted = Wanted(head="frames", video_key="a")
        place = await upstreams._place(wanted, 1.0)
        waiting = asyncio.ensure_future(upstreams._place(wanted, 1.0))
        await asyncio.sleep(0)
        upstreams._leave(place)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert upstream.num_running == 0
        await upstreams.close()

    asyncio.run(main())
