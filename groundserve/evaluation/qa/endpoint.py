"""An OpenAI-compatible chat endpoint, asked again where another try may help.

The `openai` client would try again, too, but says nothing of the tries that failed, and not where
the stream of a reply breaks off.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from groundserve.errors import (
    GroundserveError,
    InvalidRequestError,
    MissingExtraError,
    RequestCancelledError,
)
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from groundserve.evaluation.qa.replies import Reply, Usage
from groundserve.limits import MIB
from groundserve.runtime.closing import Closing

if TYPE_CHECKING:
    import httpx2
    import openai

MAX_WAIT_SECONDS = 120.0
"""Longest wait between two tries, whatever `Retry-After` says."""
_FIRST_WAIT_SECONDS = 1.0
_CONNECT_SECONDS = 10.0
_MAX_BYTES = MIB
"""In one reply, which is to be a letter."""
_MAX_SAID = 300
"""Letters of what an endpoint says that a message repeats."""
_RETRIED = {408, 409, 425, 429}
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


class QuestionFailedError(GroundserveError):
    """The endpoint did not answer one question; it may answer others."""

    def __init__(self, kind: str, message: str, *, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        """As in `Reply.retries`, or "rejected"."""
        self.retry_after = retry_after
        """The header of that name."""


class Endpoint(Closing):
    """Asks questions, from any number of threads."""

    def __init__(self, options: EndpointOptions, *, max_connections: int) -> None:
        """Connect lazily.

        Raises:
            MissingExtraError: The openai client is not installed.
            InvalidRequestError: The address is none after all, or the environment names a proxy or
                certificates that cannot be used.
        """
        try:
            import httpx2
            import openai
            from anyio.from_thread import start_blocking_portal
        except ImportError as error:
            raise MissingExtraError("serve", "openai") from error
        self._options = options
        seconds = options.timeout_seconds
        try:
            http_client = httpx2.AsyncClient(
                limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=0),
                # Through a proxy https is a tunnel; of plain http the proxy would read the key.
                trust_env=options.url.startswith("https:"),
                event_hooks={"request": [self._keep_our_headers], "response": [_bound]},
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
                max_retries=0,
                http_client=http_client,
            )
        except httpx2.InvalidURL as error:
            raise InvalidRequestError(f"endpoint is no URL: {error}") from error
        self._is_closed = False
        self._loop = ExitStack()
        self._portal = self._loop.enter_context(start_blocking_portal())

    def ask(self, content: Sequence[Mapping[str, Any]]) -> Reply:
        """Return the reply to one message.

        Args:
            content: Its parts, as the chat format has them.

        Raises:
            QuestionFailedError: No try gave a reply, or the endpoint rejects this question.
            InvalidRequestError: It takes no request of ours: the key, the model or the path.
            GroundserveError: The account has no money left.
            RequestCancelledError: `close` was called.
        """
        try:
            reply: Reply = self._portal.call(self._ask, self._options.request(content))
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
        import anyio

        seconds = self._options.timeout_seconds
        retries: list[str] = []
        while True:
            try:
                with anyio.fail_after(seconds):
                    reply = await self._try(request)
                return replace(
                    reply,
                    text=self._without_key(reply.text),
                    finish_reason=self._without_key(reply.finish_reason or "") or None,
                    retries=tuple(retries),
                )
            except TimeoutError:
                said = f"no reply within {seconds:g} s (timeout_seconds)"
                failed = QuestionFailedError("timeout", said)
            except QuestionFailedError as error:
                failed = error
            if failed.kind == "rejected" or len(retries) + 1 >= self._options.max_attempts:
                raise QuestionFailedError(failed.kind, self._said(str(failed)))
            retries.append(failed.kind)
            await anyio.sleep(wait_seconds(_seconds_of(failed.retry_after), len(retries)))

    async def _try(self, request: Mapping[str, Any]) -> Reply:
        import httpx2
        import openai

        try:
            stream = await self._client.post(
                "/chat/completions",
                body=request,
                cast_to=object,
                stream=True,
                stream_cls=openai.AsyncStream[object],
            )
            async with stream:
                kind = stream.response.headers.get("content-type", "")
                if kind.strip().lower().startswith("text/event-stream"):
                    return _read([event async for event in stream], is_stream=True)
                # Who does not stream answers with one object.
                await stream.response.aread()
                return _read([stream.response.json()], is_stream=False)
        except openai.APIStatusError as error:
            return self._read_status(error)
        except (openai.APIConnectionError, httpx2.RequestError) as error:
            cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
            if isinstance(cause, httpx2.TimeoutException):
                raise TimeoutError from None
            if isinstance(cause, httpx2.DecodingError):
                kind, said = "broken", "the reply cannot be unpacked"
            elif isinstance(cause, httpx2.RemoteProtocolError):
                kind, said = "truncated", "the connection ended too early"
            else:
                kind, said = "connection", "cannot reach the endpoint"
            raise QuestionFailedError(kind, f"{said}: {cause}") from None
        except openai.APIError as error:  # in a stream that began well
            raise _said_error(error.message) from None
        except (ValueError, RecursionError):
            raise QuestionFailedError("broken", "the reply is no JSON") from None

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
            kind = "rate_limited" if status == 429 else "server_error"
            retry_after = error.response.headers.get("retry-after")
            raise QuestionFailedError(kind, said, retry_after=retry_after)
        raise QuestionFailedError("rejected", said)

    async def _keep_our_headers(self, request: httpx2.Request) -> None:
        # The client adds what it knows of this machine and what the environment says of OpenAI
        # (OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS), whoever the endpoint is.
        for name in request.headers.keys() - _HEADERS:
            del request.headers[name]
        request.headers["Accept"] = "text/event-stream, application/json"
        if self._options.api_key is not None:
            request.headers["Authorization"] = f"Bearer {self._options.api_key}"

    def _said(self, text: str) -> str:
        """Return as much of a text from the endpoint as a message repeats, without the key."""
        return self._without_key(text)[:_MAX_SAID]

    def _without_key(self, text: str) -> str:
        key = self._options.api_key
        return text.replace(key, "***") if key else text


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


def _read(values: Sequence[Any], *, is_stream: bool) -> Reply:
    """Join the events of a stream, or read the one object of a whole reply."""
    texts: list[str] = []
    is_refused, finish_reason, usage = False, None, None
    try:
        for value in values:
            if value.get("error"):
                raise _said_error(str(value["error"]))
            usage = _usage(value.get("usage")) or usage
            for choice in (value.get("choices") or ())[:1]:
                part = choice.get("delta" if is_stream else "message") or {}
                texts.append(part.get("content") or "")
                finish_reason = choice.get("finish_reason") or finish_reason
                is_refused |= bool(part.get("refusal"))
        text = "".join(texts)
    except (AttributeError, TypeError):
        raise QuestionFailedError("broken", "the reply is not in the chat format") from None
    if is_stream and finish_reason is None:
        # A connection that is closed may end a stream anywhere, without an error.
        raise QuestionFailedError("truncated", "the stream ended before the reply did")
    if not texts:
        raise QuestionFailedError("broken", "the reply holds no choice")
    return Reply(
        text=text,
        is_refused=is_refused or finish_reason in (_FILTERED, "refusal"),
        finish_reason=None if finish_reason is None else str(finish_reason),
        usage=usage,
    )


def _said_error(message: str) -> QuestionFailedError:
    return QuestionFailedError("server_error", f"the endpoint answered with an error: {message}")


def _usage(value: Any) -> Usage | None:
    fields = value if isinstance(value, dict) else {}
    counts: list[Any] = [fields.get("prompt_tokens"), fields.get("completion_tokens")]
    # Above that a float, as which it is priced, does not count by ones.
    if not all(type(count) is int and 0 <= count <= 2**53 for count in counts):
        return None
    return Usage(prompt_tokens=counts[0], completion_tokens=counts[1])


def wait_seconds(retry_after: float | None, num_retries: int) -> float:
    """Return how long to wait before the next try."""
    if retry_after is not None:
        return min(retry_after, MAX_WAIT_SECONDS)
    longest = min(_FIRST_WAIT_SECONDS * 2 ** (num_retries - 1), MAX_WAIT_SECONDS)
    # Drawn from the upper half, so that those who were refused together do not come together.
    return random.uniform(longest / 2, longest)


def _seconds_of(retry_after: str | None) -> float | None:
    """Return the seconds of a `Retry-After`, a number or a date; None where it is neither."""
    for read in (float, _seconds_until):
        with suppress(ValueError, TypeError, OverflowError):
            seconds = read(retry_after or "")
            return max(seconds, 0.0) if seconds < float("inf") else None
    return None


def _seconds_until(date: str) -> float:
    when = parsedate_to_datetime(date)
    return (when - datetime.now(when.tzinfo)).total_seconds()
