"""An OpenAI-compatible chat endpoint, asked again by its client where another try may help."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from groundserve import extras
from groundserve.errors import (
    GroundserveError,
    InvalidRequestError,
    RequestCancelledError,
)
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from groundserve.evaluation.qa.replies import Reply, Usage
from groundserve.limits import MIB
from groundserve.runtime.closing import Closing

if TYPE_CHECKING:
    import httpx2
    import openai

_CONNECT_SECONDS = 10.0
_MAX_WAIT_SECONDS = 120.0
"""Longest wait of the client between two tries."""
_MAX_BYTES = MIB
"""In one reply, which is to be a letter."""
_MAX_SAID = 300
"""Letters of what an endpoint says that a message repeats."""
_RETRIED = {408, 409, 429}
"""Beside all of 5xx."""
_NO_MONEY = "insufficient_quota"
"""OpenAI's code of a 429 that no wait ends."""
_FILTERED = "content_filter"
"""Azure's code of a 400 by which it refuses a question, and a reason to finish."""
_HEADERS = {"host", "accept", "accept-encoding", "connection", "content-length", "content-type"}
"""What is sent beside the key."""
_OF_KEY = "is the API key in the environment the right one?"
_WRONG_REQUEST = {
    401: _OF_KEY,
    403: _OF_KEY,
    404: "look at --endpoint, which ends before /chat/completions, and at --model",
    **dict.fromkeys(
        range(300, 400),
        "it redirects, which is not followed, as the key would go elsewhere: look at --endpoint",
    ),
}
"""What to do about a status that every request of ours would meet."""
_failed_tries: ContextVar[list[str]] = ContextVar("_failed_tries")
"""What was wrong with each try for a question; the last is under way."""


class QuestionFailedError(GroundserveError):
    """The endpoint did not answer one question; it may answer others."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        """As in `Reply.retries`, "timeout", "broken" or "rejected"."""


class Endpoint(Closing):
    """Asks questions, from any number of threads."""

    def __init__(self, options: EndpointOptions, *, max_connections: int) -> None:
        """Connect lazily."""
        openai, httpx2 = extras.openai, extras.httpx2
        self._options = options
        seconds = options.timeout_seconds
        try:
            http_client = httpx2.AsyncClient(
                limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=0),
                # Through a proxy https is a tunnel; of plain http the proxy would read the key.
                trust_env=options.url.startswith("https:"),
                event_hooks={"request": [self._prepare], "response": [_note_status, _bound]},
            )
        except (ImportError, ValueError, OSError) as error:
            raise InvalidRequestError(
                "cannot use the proxy or the certificates that the environment names (ALL_PROXY, "
                "HTTPS_PROXY, SSL_CERT_FILE, SSL_CERT_DIR, SSLKEYLOGFILE); a SOCKS proxy needs the "
                "package socksio"
            ) from error
        try:
            self._client = openai.AsyncOpenAI(
                api_key=options.api_key or "none",
                base_url=options.url,
                timeout=openai.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds)),
                max_retries=options.max_attempts - 1,
                http_client=http_client,
            )
        except httpx2.InvalidURL as error:
            raise InvalidRequestError(f"endpoint is no URL: {error}") from error
        self._is_closed = False
        self._loop = ExitStack()
        self._portal = self._loop.enter_context(extras.anyio.from_thread.start_blocking_portal())

    def ask(self, content: Sequence[Mapping[str, Any]], **fields: Any) -> Reply:
        """Return the reply to one message.

        Args:
            content: Its parts, as the chat format has them.
            fields: Of the request, as `EndpointOptions.request` takes them.

        Raises:
            QuestionFailedError: No try gave a reply, or the endpoint rejects this question.
            InvalidRequestError: It takes no request of ours: the key, the model or the path.
            GroundserveError: The account has no money left.
            RequestCancelledError: `close` was called.
        """
        try:
            reply: Reply = self._portal.call(self._ask, self._options.request(content, **fields))
        except (CancelledError, RuntimeError):  # the latter of a loop that has ended
            if self._is_closed:
                raise RequestCancelledError("the endpoint is closed") from None
            raise
        return reply

    def close(self) -> None:
        """End what is under way, in all threads."""
        self._is_closed = True
        with suppress(RuntimeError):  # closed before
            self._portal.call(self._portal.stop, True)
        self._loop.close()

    async def _ask(self, request: Mapping[str, Any]) -> Reply:
        openai, options = extras.openai, self._options
        tries: list[str] = []
        _failed_tries.set(tries)
        try:
            async with asyncio.timeout(
                options.max_attempts * (options.timeout_seconds + _MAX_WAIT_SECONDS)
            ):
                value = await self._client.post("/chat/completions", body=request, cast_to=object)
            reply = _read(value)
        except (TimeoutError, openai.APITimeoutError):
            said = f"no reply within {options.timeout_seconds:g} s (timeout_seconds)"
            raise QuestionFailedError("timeout", said) from None
        except openai.APIStatusError as error:
            reply = self._read_status(error)
        except openai.APIConnectionError as error:
            said = self._said(f"cannot reach the endpoint: {error.__cause__}")
            raise QuestionFailedError("connection", said) from None
        except (ValueError, RecursionError):
            raise QuestionFailedError("broken", "the reply is no JSON") from None
        except QuestionFailedError as error:
            raise QuestionFailedError(error.kind, self._said(str(error))) from None
        return replace(
            reply,
            text=self._without_key(reply.text),
            finish_reason=self._without_key(reply.finish_reason or "") or None,
            retries=tuple(tries[:-1]),
        )

    def _read_status(self, error: openai.APIStatusError) -> Reply:
        """Return what a status other than 200 says of the question, or raise."""
        status, body = error.status_code, error.body if isinstance(error.body, dict) else {}
        code = body.get("code") or body.get("type")
        message = str(body.get("message") or error.response.text.strip() or "nothing")
        said = f"the endpoint answered {status}: {self._said(message)}"
        if status in _WRONG_REQUEST:
            raise InvalidRequestError(f"{said}; {_WRONG_REQUEST[status]}")
        if status == 429 and code == _NO_MONEY:
            raise GroundserveError(f"{said}; go on when the account has money again")
        if code == _FILTERED:
            return Reply(text="", is_refused=True, finish_reason=_FILTERED, usage=None)
        if status in _RETRIED or status >= 500:
            raise QuestionFailedError(_kind_of(status), said)
        raise QuestionFailedError("rejected", said)

    async def _prepare(self, request: httpx2.Request) -> None:
        _failed_tries.get().append("connection")
        # The client adds what it knows of this machine and what the environment says of OpenAI
        # (OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS), whoever the endpoint is.
        for name in request.headers.keys() - _HEADERS:
            del request.headers[name]
        request.headers["Accept"] = "application/json"
        if self._options.api_key is not None:
            request.headers["Authorization"] = f"Bearer {self._options.api_key}"

    def _said(self, text: str) -> str:
        return self._without_key(text)[:_MAX_SAID]

    def _without_key(self, text: str) -> str:
        key = self._options.api_key
        return text.replace(key, "***") if key else text


async def _note_status(response: httpx2.Response) -> None:
    if response.status_code in _RETRIED or response.status_code >= 500:
        _failed_tries.get()[-1] = _kind_of(response.status_code)


def _kind_of(status: int) -> str:
    return "rate_limited" if status == 429 else "server_error"


async def _bound(response: httpx2.Response) -> None:
    """Give up a response that is longer than any reply."""
    pieces = response.aiter_bytes

    async def bounded(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        size = 0
        async for piece in pieces(chunk_size):
            size += len(piece)
            if size > _MAX_BYTES:
                raise QuestionFailedError("broken", f"the reply has more than {_MAX_BYTES} bytes")
            yield piece

    response.aiter_bytes = bounded  # type: ignore[method-assign, assignment]


def _read(value: Any) -> Reply:
    try:
        if value.get("error"):
            raise QuestionFailedError(
                "server_error", f"the endpoint answered with an error: {value['error']}"
            )
        choice = value["choices"][0]
        message, finish_reason = choice["message"], choice.get("finish_reason")
        text = message.get("content") or ""
        if not isinstance(text, str):  # a list of parts, as some endpoints have it
            raise TypeError
        return Reply(
            text=text,
            is_refused=bool(message.get("refusal")) or finish_reason in (_FILTERED, "refusal"),
            finish_reason=None if finish_reason is None else str(finish_reason),
            usage=_usage(value.get("usage")),
        )
    except (AttributeError, TypeError, LookupError):
        raise QuestionFailedError("broken", "the reply is not in the chat format") from None


def _usage(value: Any) -> Usage | None:
    fields = value if isinstance(value, dict) else {}
    counts: list[Any] = [fields.get("prompt_tokens"), fields.get("completion_tokens")]
    # Above that a float, as which it is priced, does not count by ones.
    if not all(type(count) is int and 0 <= count <= 2**53 for count in counts):
        return None
    return Usage(prompt_tokens=counts[0], completion_tokens=counts[1])
