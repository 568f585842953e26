"""The log's line for each request, taken out of a real log by the documented command."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request

import pytest

from groundserve import Client, InvalidRequestError
from tests.triton.protocol import RejectedError

SECRET = "a very secret question"
STAGES = {"probe", "cut", "decode", "encode", "ground", "select"}


@pytest.fixture
def server(served):
    """The server with an empty log, as after a rotation."""
    served.log_file.write_bytes(b"")
    return served


@pytest.fixture
def client(server):
    with Client(f"grpc://{server.triton.grpc_address}") as opened:
        yield opened


def line_about(server, request_id):
    found = server.wait_for_lines(request_id)
    lines = [line for line in found if line["request_id"] == request_id]
    assert len(lines) == 1
    assert lines[0].pop("time")
    assert lines[0].pop("event") == "request"
    return lines[0]


def test_line_of_an_answer_is_the_same_for_the_ensemble_and_for_client(server, client, clips):
    video = clips["vfr"]
    server.ask(video, SECRET, "When?", request_id="ensemble")
    result = client.score(video, [SECRET, "When?"])
    lines = [line_about(server, "ensemble"), line_about(server, result.request_id)]
    for line in lines:
        assert line.pop("request_id")
        assert line.pop("timing_ms").keys() == STAGES
        assert line == {
            "outcome": "ok",
            "video_bytes": video.stat().st_size,
            "num_frames": 4,
            "num_queries": 2,
            "grid": 8,
            "cache_hit": False,
        }
    assert len(server.log_lines()) == 2
    assert "secret" not in server.log_file.read_text("utf-8")


@pytest.mark.parametrize("way", ["ensemble", "client"])
def test_line_of_an_error_repeats_nothing_of_the_request(server, client, clips, way):
    video = clips["vfr"]
    if way == "ensemble":
        with pytest.raises(RejectedError, match=SECRET):
            server.ask(video, "<image>", request_id="mine", selector=SECRET)
    else:
        with pytest.raises(InvalidRequestError) as caught:
            client.score(video, SECRET + "<image>", request_id="mine")
        assert caught.value.request_id == "mine"
    line = line_about(server, "mine")
    assert line.pop("seconds") < 60
    message = line.pop("message")
    assert line == {
        "request_id": "mine",
        "outcome": "error",
        "error": "InvalidRequestError",
        "video_bytes": video.stat().st_size,
        "num_queries": 1,
    }
    assert message
    assert "secret" not in server.log_file.read_text("utf-8")


def test_caller_cannot_forge_a_line(server, clips):
    forged = 'x"}"\nI1122 13:00:00.000000 1 model.py:1] "{"time": "1", "event": "request"}"\x1b[2J'
    server.ask(clips["vfr"], "When?", request_id=forged)
    (line,) = server.wait_for_lines()
    assert line["request_id"] == "".join(c if " " <= c <= "~" else "?" for c in forged)[:64]
    assert "\x1b" not in server.log_file.read_text("utf-8")


def post(server, body):
    """By HTTP, where Triton looks at no byte of an id or a parameter."""
    url = f"http://{server.triton.http_address}/v2/models/videoitg/infer"
    request = urllib.request.Request(url, body.encode("utf-8", "surrogateescape"))
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")


NO_TEXT = "\udcff\udcfe"
QUERY = '{"name": "QUERY", "shape": [1], "datatype": "BYTES", "data": ["When?"]}'


def test_id_that_is_no_text_has_a_line(server):
    status, _ = post(server, f'{{"id": "a{NO_TEXT}z", "inputs": [{QUERY}]}}')
    assert status == 400
    assert line_about(server, "a??z")["error"] == "InvalidRequestError"


def test_parameter_that_is_no_text_is_refused(server):
    body = f'{{"id": "a", "parameters": {{"x": "{NO_TEXT}"}}, "inputs": [{QUERY}]}}'
    status, message = post(server, body)
    assert (status, json.loads(message)) == (
        400,
        {"error": "in ensemble 'videoitg', the request's parameters must be UTF-8"},
    )
    assert line_about(server, "a")["error"] == "InvalidRequestError"
    assert "Traceback" not in server.log_file.read_text("utf-8")


def test_log_is_rotated_by_copying_and_cutting(server, clips, tmp_path):
    """What logrotate's copytruncate does; a file that is not appended to would begin with zeros."""
    server.ask(clips["vfr"], "When?", request_id="before")
    server.wait_for_lines("before")
    rotated = tmp_path / "triton.log.1"
    shutil.copyfile(server.log_file, rotated)
    with server.log_file.open("r+b") as file:
        file.truncate()
    server.ask(clips["vfr"], "When?", request_id="after")
    assert '\\"before\\"' in rotated.read_text("utf-8")
    assert [line["request_id"] for line in server.wait_for_lines()] == ["after"]
    assert b"\0" not in server.log_file.read_bytes()
