"""A chat endpoint that misbehaves, over real connections: what comes out, how often it is asked."""

import sys
import threading
import time

import openai
import pytest

from groundserve.errors import (
    GroundserveError,
    InvalidRequestError,
    MissingExtraError,
    RequestCancelledError,
)
from groundserve.evaluation.qa.endpoint import Endpoint, QuestionFailedError
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from groundserve.evaluation.qa.replies import Usage
from tests.unit.evaluation.qa.chat_server import Act, chat_server, in_turn

CONTENT = [{"type": "text", "text": "Which?"}]
GOOD = Act("(B) two")


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    """No wait between tries takes time."""
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.0)


def ask(script, **options):
    """Return the reply, or the error, and the server that gave it."""
    with chat_server(script) as server:
        settings = {"model": "m", "max_tokens": 16, "timeout_seconds": 5, **options}
        with Endpoint(EndpointOptions(url=server.url, **settings), max_connections=2) as endpoint:
            try:
                return endpoint.ask(CONTENT), server
            except GroundserveError as error:
                return error, server


def test_a_reply_is_read():
    reply, server = ask(in_turn(Act("(B) two", usage=(812, 5))))
    assert reply.text == "(B) two"
    assert reply.usage == Usage(prompt_tokens=812, completion_tokens=5)
    assert (reply.is_refused, reply.finish_reason, reply.retries) == (False, "stop", ())
    assert server.requests == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": CONTENT}],
            "max_tokens": 16,
            "temperature": 0,
        }
    ]
    assert server.keys == [None]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        pytest.param(Act(status=429), "rate_limited", id="429"),
        pytest.param(Act(status=503), "server_error", id="503"),
        pytest.param(Act("x", cut="close"), "connection", id="closes"),
        pytest.param(Act("(B) two", cut="body"), "connection", id="body_cut"),
    ],
)
def test_what_may_pass_is_tried_again(bad, kind):
    reply, server = ask(in_turn(bad, bad, GOOD))
    assert reply.text == "(B) two"
    assert reply.retries == (kind, kind)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        pytest.param(Act(body=b'{"choices": [{'), "broken", id="broken_json"),
        pytest.param(Act(body=b'{"choices": []}'), "broken", id="no_choice"),
        pytest.param(
            Act(body=b'{"choices": [{"message": {"content": [{"text": "B"}]}}]}'),
            "broken",
            id="parts",
        ),
        pytest.param(Act(body=b'{"error": {"message": "cuda"}}'), "server_error", id="error_200"),
        pytest.param(Act("A" * 2**20), "broken", id="endless"),
        pytest.param(Act("B", seconds=1), "timeout", id="late"),
        pytest.param(Act(status=500), "server_error", id="500"),
    ],
)
def test_what_fails_one_question(bad, kind):
    error, _ = ask(in_turn(bad), timeout_seconds=0.5, max_attempts=2)
    assert isinstance(error, QuestionFailedError)
    assert error.kind == kind


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        pytest.param(Act("no", status=401), InvalidRequestError, "API key", id="key"),
        pytest.param(Act("no model m", status=404), InvalidRequestError, "--model", id="model"),
        pytest.param(
            Act(status=429, body=b'{"error": {"message": "", "code": "insufficient_quota"}}'),
            GroundserveError,
            "money",
            id="quota",
        ),
    ],
)
def test_what_is_wrong_with_every_question_is_no_failure_of_one(act, kind, message):
    error, _ = ask(in_turn(act))
    assert type(error) is kind
    assert message in str(error)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(Act(refusal="I will not.", text=""), id="field"),
        pytest.param(Act("", finish_reason="content_filter"), id="finish_reason"),
        pytest.param(
            Act(status=400, body=b'{"error": {"code": "content_filter", "message": "hm"}}'),
            id="azure",
        ),
    ],
)
def test_refusals_are_replies(act):
    reply, server = ask(in_turn(act))
    assert reply.is_refused
    assert len(server.requests) == 1


@pytest.mark.parametrize("act", [Act(status=500), Act("A", seconds=5)], ids=["wait", "read"])
def test_closing_ends_a_wait_and_a_read(monkeypatch, act):
    for name in ("INITIAL_RETRY_DELAY", "MAX_RETRY_DELAY"):
        monkeypatch.setattr(openai._base_client, name, 60.0)
    ended = []

    def work(endpoint):
        with pytest.raises(RequestCancelledError):
            endpoint.ask(CONTENT)
        ended.append(server.num_at_once)

    with chat_server(in_turn(act)) as server:
        options = EndpointOptions(url=server.url, model="m", max_tokens=1)
        endpoint = Endpoint(options, max_connections=1)
        thread = threading.Thread(target=work, args=(endpoint,))
        thread.start()
        wait_for(lambda: server.requests)
        if act.status == 500:
            wait_for(lambda: not server.num_at_once)  # between two tries
        endpoint.close()
        thread.join(30)
    # Of what is read the server is still at work: nobody waited for it.
    assert ended == [0 if act.status == 500 else 1]


def wait_for(is_so):
    until = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_without_openai_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"openai is not installed.*groundserve\[serve\]"):
        Endpoint(EndpointOptions(url="http://h/v1", model="m", max_tokens=1), max_connections=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "ftp://h/v1"}, "endpoint must be http"),
        ({"url": "http://me:sesame@h/v1"}, "no user, query or fragment"),
        ({"url": "http://h/v1?key=sesame"}, "no user, query or fragment"),
        ({"api_key": "sesame\n"}, "the API key must be ASCII without blanks"),
        ({"body": {"x": float("nan")}}, "model and body must be Unicode and finite numbers"),
        ({"timeout_seconds": 0.0}, "timeout_seconds must be > 0 and finite, got 0.0"),
    ],
)
def test_options_are_checked(change, message):
    given = {"url": "http://h/v1", "model": "m", "max_tokens": 1, **change}
    with pytest.raises(InvalidRequestError, match=message) as refused:
        EndpointOptions(**given)
    assert "sesame" not in str(refused.value)
