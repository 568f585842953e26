"""What an endpoint, a proxy or the environment may do on purpose, over real connections."""

import gzip
import json

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.endpoint import Endpoint, QuestionFailedError
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from tests.unit.evaluation.qa.chat_server import Act, chat_server, in_turn

KEY = "sk-very-secret"
CONTENT = [{"type": "text", "text": "Which?"}]
CHOICE = {"message": {"content": "(B)"}, "finish_reason": "stop"}
WHOLE = json.dumps({"choices": [CHOICE]}).encode()


def ask(url, **options):
    """Return the reply to one try."""
    settings = {"model": "m", "max_tokens": 1, "max_attempts": 1, "timeout_seconds": 20.0}
    with Endpoint(EndpointOptions(url=url, **settings | options), max_connections=1) as endpoint:
        return endpoint.ask(CONTENT)


def test_a_packed_reply_is_unpacked_and_a_broken_one_fails_its_question():
    packed = {"Content-Encoding": "gzip"}
    with chat_server(in_turn(Act(body=gzip.compress(WHOLE), headers=packed))) as server:
        assert ask(server.url).text == "(B)"
    with (
        chat_server(in_turn(Act(body=WHOLE, headers=packed))) as server,
        pytest.raises(QuestionFailedError, match="cannot reach the endpoint") as failed,
    ):
        ask(server.url)
    assert failed.value.kind == "connection"


def test_a_redirection_is_not_followed():
    act = Act(status=307, headers={"Location": "http://127.0.0.1:9/v1/chat/completions"})
    with (
        chat_server(in_turn(act)) as server,
        pytest.raises(InvalidRequestError, match=r"answered 307.*not followed.*--endpoint"),
    ):
        ask(server.url, api_key=KEY)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_reads_the_key(monkeypatch, name):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with chat_server(in_turn(Act("A"))) as proxy, chat_server(in_turn(Act("B"))) as server:
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        assert ask(server.url, api_key=KEY).text == "B"
    assert proxy.keys == []


def test_what_the_environment_says_of_openai_goes_nowhere(monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: {KEY}\nX-Team: {KEY}")
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    with chat_server(in_turn(Act("B"))) as server:
        ask(server.url)
    assert not [name for name in (KEY, "openai", "stainless") if name in server.headers[0]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", f"socks://me:{KEY}@h"),
        ("HTTPS_PROXY", "what://h"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
    ],
)
def test_an_environment_that_cannot_be_used(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidRequestError, match="the environment names") as refused:
        ask("https://127.0.0.1:9/v1")
    assert KEY not in str(refused.value)


def test_a_key_is_said_neither_in_part_nor_as_a_reason_to_finish():
    said = "x" * 290 + KEY
    with (
        chat_server(in_turn(Act(said, status=500))) as server,
        pytest.raises(QuestionFailedError) as failed,
    ):
        ask(server.url, api_key=KEY)
    assert "sk-" not in str(failed.value)
    with chat_server(in_turn(Act("B", finish_reason=KEY))) as server:
        assert ask(server.url, api_key=KEY).finish_reason == "***"
