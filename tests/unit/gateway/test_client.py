"""The clients of the package on a gateway: the same results and errors as of the server itself."""

import asyncio
import dataclasses
import json
import threading

import pytest

from groundserve import AnswerOptions, AsyncClient, Client, ScoreOptions
from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    MediaError,
    RequestCancelledError,
    UnavailableError,
    UnsupportedError,
)
from groundserve.gateway.keys import add_key
from tests.unit.gateway.conftest import wait_until

VIDEO = b"a video's bytes"
OPTIONS = {"score": ScoreOptions(top_k=3), "ask": AnswerOptions(max_new_tokens=9)}


@pytest.fixture
def url(start, scripted):
    return start(scripted).server.url


def as_json(result):
    return json.dumps(dataclasses.replace(result, video="x").to_json())


@pytest.mark.parametrize("kind", ["score", "ask"])
def test_results_are_those_of_the_server(url, scripted, kind, tmp_path):
    (tmp_path / "a.mp4").write_bytes(VIDEO)
    args = (["Où ?", "b c"], OPTIONS[kind])
    with Client(scripted.url) as direct, Client(url) as client:
        expected = getattr(direct, kind)(VIDEO, *args, request_id="r-1")
        for video in (VIDEO, tmp_path / "a.mp4"):
            found = getattr(client, kind)(video, *args, request_id="r-1")
            assert as_json(found) == as_json(expected)
            assert type(found) is type(expected)
        assert found.video == str(tmp_path / "a.mp4")
        assert client.is_ready()
        assert client.families() == ("videoitg", "vtimellm")

    async def ask():
        async with AsyncClient(url) as client:
            return await getattr(client, kind)(VIDEO, *args, request_id="r-1")

    assert as_json(asyncio.run(ask())) == as_json(expected)


def test_text_comes_in_pieces(url, scripted):
    told = []
    for place in (scripted.url, url):
        with Client(place) as client:
            result = client.ask(VIDEO, ["a b", "c"], on_text=lambda *piece: told.append(piece))
            assert [answer.text for answer in result.answers] == ["a b", "c"]
    assert told == [(0, "a "), (0, "b "), (1, "c ")] * 2


def test_a_stored_video_by_its_id(start, scripted):
    gateway = start(scripted)
    stored = gateway.post("/v1/videos", content=VIDEO).json()["id"]
    with Client(gateway.server.url) as client:
        for uri in (stored, f"groundserve://videos/{stored}"):
            assert client.score(video_uri=uri, queries="x").video == uri
        with pytest.raises(InvalidRequestError, match="no such video"):
            client.score(video_uri="video-none", queries="x")
        with pytest.raises(InvalidRequestError, match="fetches nothing"):
            client.score(video_uri="https://a.example/b.mp4", queries="x")


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("kind", [InvalidRequestError, MediaError, UnsupportedError])
def test_errors_keep_their_class(url, scripted, kind, is_streamed):
    def script(request):
        raise kind("this is wrong")

    scripted.script = script
    with Client(url) as client, pytest.raises(kind, match="this is wrong") as caught:
        client.ask(VIDEO, "x", on_text=(lambda *_: None) if is_streamed else None)
    assert type(caught.value) is kind
    assert caught.value.request_id


def test_a_key_is_sent(start, scripted, tmp_path):
    key = add_key(tmp_path / "keys", "a")
    url = start(scripted, key=key, keys_file=tmp_path / "keys").server.url
    with Client(url, api_key=key) as client:
        assert client.score(VIDEO, "x").queries
    for wrong in (None, "gs-x"):
        with Client(url, api_key=wrong) as client:
            with pytest.raises(InvalidRequestError, match="API key"):
                client.score(VIDEO, "x")
            assert client.families() == ()


def test_calls_end_early(url, scripted):
    """By their time, by `close` in another thread, and by the task that is cancelled."""
    scripted.script = lambda request: wait_until(lambda: not request.context.is_active())
    with Client(url) as client:
        with pytest.raises(DeadlineExceededError):
            client.score(VIDEO, "x", timeout_seconds=0.5)
        scripted.has_asked.clear()

        def close():
            scripted.has_asked.wait(60)
            client.close()

        threading.Thread(target=close).start()
        with pytest.raises(RequestCancelledError):
            client.score(VIDEO, "x")
        with pytest.raises(RequestCancelledError):
            client.score(VIDEO, "x")

    async def cancel():
        scripted.has_asked.clear()
        async with AsyncClient(url) as client:
            task = asyncio.create_task(client.score(VIDEO, "x"))
            await asyncio.to_thread(scripted.has_asked.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancel())
    for request in scripted.requests:
        wait_until(lambda request=request: not request.context.is_active())


def test_where_no_gateway_is(scripted):
    with Client("http://127.0.0.1:9") as client:
        assert not client.is_ready()
        with pytest.raises(UnavailableError, match="is the gateway running there"):
            client.score(VIDEO, "x")
    for url in ("http://a:b", "http://[::1"):
        with pytest.raises(InvalidRequestError, match="url must be http"):
            Client(url)
    with pytest.raises(InvalidRequestError, match="root_certificates goes with https"):
        Client("http://a", root_certificates="x")
    with pytest.raises(InvalidRequestError, match="root_certificates must be a file"):
        Client("https://a", root_certificates="none.pem")
    # A server of another kind.
    with Client(scripted.url.replace("grpc", "http")) as client, pytest.raises(GroundserveError):
        client.score(VIDEO, "x")
