"""The same fault, the same error: whether a server is asked or the engines are in this process."""

from __future__ import annotations

import asyncio
import os

import pytest

from groundserve import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    MediaError,
    Pipeline,
    RequestCancelledError,
    ScoreOptions,
    UnavailableError,
    UnsupportedError,
)

UNREADABLE = (
    "the video cannot be read: it is damaged, or not one of mov, mp4, matroska, webm, avi, mpegts "
    "(recognised by content)"
)
EMPTY = "the video is empty (0 bytes)"
# Name -> what differs from a good request, the class, and the message or the end of it.
FAULTS = {
    "missing_file": (
        {"video": "{folder}/none.mp4"},
        MediaError,
        "/none.mp4': No such file or directory",
    ),
    "folder": ({"video": "{folder}"}, MediaError, "is not a regular file"),
    "empty_file": ({"video": "{folder}/empty"}, MediaError, EMPTY),
    "no_video": ({"video": b"no video" * 99}, MediaError, UNREADABLE),
    "damaged": ({"video": "{folder}/damaged"}, MediaError, "the video is damaged there"),
    "number_as_video": (
        {"video": 123},
        InvalidRequestError,
        "video must be a path (str or os.PathLike) or bytes, got 123",
    ),
    "file_uri_as_video": (
        {"video": "file:///a.mp4"},
        InvalidRequestError,
        "video must be a path or bytes, got the URI 'file:///a.mp4': give its path, or, for a file "
        "that the server itself may read, video_uri=... to a Client",
    ),
    "https_as_video": (
        {"video": "https://host/a.mp4?key=secret"},
        UnsupportedError,
        "video must be a path or bytes, got the URI 'https://host/a.mp4': nothing is fetched; "
        "download it and give its path",
    ),
    "no_question": (
        {"queries": []},
        InvalidRequestError,
        "queries must hold at least one question, got none",
    ),
    "placeholder": (
        {"queries": "<image>"},
        InvalidRequestError,
        "QUERY must not contain the placeholder <image>; remove it",
    ),
    "number_as_questions": (
        {"queries": 5},
        InvalidRequestError,
        "queries must be a text or a sequence of texts, got 5",
    ),
    "number_among_questions": (
        {"queries": ["When?", 5]},
        InvalidRequestError,
        "queries[1] must be a text, got 5",
    ),
    "dict_as_options": (
        {"options": {"top_k": 3}},
        InvalidRequestError,
        "options must be a ScoreOptions, such as ScoreOptions(top_k=8), got a dict",
    ),
    "too_many_frames": (
        {"options": ScoreOptions(num_frames=4096)},
        InvalidRequestError,
        "num_frames must be <= 1024 on this server, got 4096",
    ),
    "threshold_above_1": (
        {"span_threshold": 2},
        InvalidRequestError,
        "span_threshold must be in [0, 1], got 2",
    ),
    "negative_gap": (
        {"span_gap_seconds": -1},
        InvalidRequestError,
        "span_gap_seconds must be >= 0, got -1",
    ),
    "negative_timeout": (
        {"timeout_seconds": -1},
        InvalidRequestError,
        "timeout_seconds must be > 0 and finite, got -1",
    ),
    "no_time": ({"timeout_seconds": 1e-4}, DeadlineExceededError, ""),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, clips):
    folder = tmp_path_factory.mktemp("faults")
    data = bytearray(clips["carphone_pristine"].read_bytes())
    start = data.index(b"mdat") + 8
    data[start + 1000 : start + 200_000] = bytes(199_000)
    (folder / "damaged").write_bytes(data)
    (folder / "empty").touch()
    os.mkfifo(folder / "fifo")
    return folder


@pytest.fixture(scope="module")
def url(server):
    return f"grpc://{server.grpc_address}"


@pytest.fixture(scope="module")
def client(url):
    with Client(url) as client:
        yield client


def raised(score, *args, **arguments) -> GroundserveError:
    with pytest.raises(GroundserveError) as caught:
        score(*args, **arguments)
    return caught.value


def score_by_async_client(url, **arguments):
    async def main():
        async with AsyncClient(url) as client:
            await client.score(**arguments)

    asyncio.run(main())


@pytest.mark.parametrize(("changed", "kind", "message"), FAULTS.values(), ids=FAULTS)
def test_fault_is_the_same_error_everywhere(
    url, client, pipeline, folder, clips, changed, kind, message
):
    arguments = {"video": clips["carphone_pristine"], "queries": "When?", **changed}
    if isinstance(video := arguments["video"], str):
        arguments["video"] = video.format(folder=folder)
    errors = [
        raised(client.score, **arguments),
        raised(score_by_async_client, url, **arguments),
        raised(pipeline.score, **arguments),
    ]
    assert [type(error) for error in errors] == [kind] * 3
    assert all(str(error).endswith(message) for error in errors), errors
    if kind is not DeadlineExceededError:  # who noticed it says so
        assert len({str(error) for error in errors}) == 1


def test_closed_is_closed(url, engine_dirs, clips):
    client = Client(url)
    client.close()
    error = raised(client.score, clips["vfr"], "When?")
    assert (type(error), str(error)) == (RequestCancelledError, "the client is closed")
    pipeline = Pipeline.open(engine_dirs["cpu"])
    pipeline.close()
    pipeline.close()
    error = raised(pipeline.score, clips["vfr"], "When?")
    assert (type(error), str(error)) == (RequestCancelledError, "the pipeline is closed")


def test_other_process_makes_its_own(client, pipeline, clips, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        errors = [raised(scorer.score, clips["vfr"], "When?") for scorer in (client, pipeline)]
        client.close()
        pipeline.close()
    assert [type(error) for error in errors] == [InvalidRequestError] * 2
    assert all("must be used in the process that made it" in str(error) for error in errors)
    assert client.is_ready()  # neither was closed
    pipeline.score(clips["vfr"], "When?", ScoreOptions(num_frames=2))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        pytest.param({}, InvalidRequestError, "give exactly one of video and video_uri", id="none"),
        pytest.param(
            {"video_uri": "https://host/a.mp4"},
            UnsupportedError,
            "VIDEO_URI must be a file: URI; this server fetches nothing over http(s)",
            id="https",
        ),
        pytest.param(
            {"video": b"x", "request_id": 5},
            InvalidRequestError,
            "request_id must be 1 to 64 printable ASCII characters, got 5",
            id="request_id",
        ),
    ],
)
def test_faults_that_only_a_client_can_be_given(client, arguments, kind, message):
    error = raised(client.score, queries="When?", **arguments)
    assert (type(error), str(error)) == (kind, message)


def test_port_of_http_is_told_from_a_dead_server(server):
    with Client(f"grpc://{server.http_address}") as client:
        assert not client.is_ready()
        error = raised(client.score, b"x", "When?")
    assert type(error) is UnavailableError
    assert str(error).endswith("give the server's gRPC port (8001 by default)")
