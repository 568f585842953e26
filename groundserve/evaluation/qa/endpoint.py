"""An OpenAI-compatible chat endpoint, asked again where another try may help.

What it may do wrong, and what follows, stands in docs/evaluation.md.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from weakref import WeakSet

from groundserve.errors import (
    GroundserveError,
    InvalidRequestError,
    MissingExtraError,
    RequestCancelledError,
)
from groundserve.evaluation.qa.reply_stream import (
    BadReplyError,
    Reply,
    error_of_body,
    read_body,
    read_reply,
)
from groundserve.evaluation.qa.waits import parse_retry_after, wait_seconds

if TYPE_CHECKING:
    import httpx2

_CONNECT_SECONDS = 10.0
_RETRIED = {408, 409, 425, 429}
"""Beside all of 5xx."""
_KEY_ERRORS = {401, 403}
_NO_MONEY = "insufficient_quota"
"""OpenAI's code of a 429 that no wait ends."""
_FILTERED = "content_filter"
"""Azure's code of a 400 by which it refuses a question."""


class QuestionFailedError(GroundserveError):
    """The endpoint did not answer one question; it may answer others."""

    def __init__(self, kind: str, message: str, retries: tuple[str, ...]) -> None:
        super().__init__(message)
        self.kind = kind
        """As in `Reply.retries`, or "rejected"."""
        self.retries = retries
        """Of the tries before the last."""


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """How an endpoint is asked."""

    url: str
    """Up to `/v1`; `/chat/completions` is added."""
    model: str
    """As the endpoint calls it."""
    max_tokens: int
    """Of one reply."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as a bearer token, and nowhere else; None sends none."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the request beside, or in place of, ours; null takes one of ours away."""
    max_attempts: int = 5
    """Tries for one question, >= 1."""
    timeout_seconds: float = 120.0
    """Of one try, > 0; also the longest time without a byte."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidRequestError("endpoint must be http://HOST[:PORT]/v1 or https://...")
        # What is in there may be a secret, so the message does not repeat it.
        if parts.username is not None or parts.query or parts.fragment:
            raise InvalidRequestError(
                "endpoint must have no user, query or fragment; a key is read from an "
                "environment variable"
            )
        if not self.model:
            raise InvalidRequestError("model must not be empty")
        if self.max_attempts < 1:
            raise InvalidRequestError(f"max_attempts must be >= 1, got {self.max_attempts}")
        if not 0 < self.timeout_seconds < float("inf"):
            raise InvalidRequestError(
                f"timeout_seconds must be > 0 and finite, got {self.timeout_seconds}"
            )

    def request(self, content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the body of a request whose one message has these parts."""
        ours = {
            "model": self.model,
            "messages": [{"role": "user", "content": list(content)}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            # Of a stream it is seen at once that nothing comes any more, and proxies keep it open.
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return {name: value for name, value in {**ours, **self.body}.items() if value is not None}


class Endpoint:
    """Asks questions, from any number of threads."""

    def __init__(self, options: EndpointOptions, *, max_connections: int) -> None:
        """Connect lazily.

        Args:
            options: What to ask, and how patiently.
            max_connections: Threads that ask at one time.

        Raises:
            MissingExtraError: httpx2 is not installed.
        """
        try:
            import httpx2
        except ImportError as error:
            raise MissingExtraError("serve", "httpx2") from error
        self._options = options
        self._url = f"{options.url.rstrip('/')}/chat/completions"
        headers = {"Accept": "text/event-stream, application/json"}
        if options.api_key is not None:
            headers["Authorization"] = f"Bearer {options.api_key}"
        seconds = options.timeout_seconds
        self._client = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds)),
            limits=httpx2.Limits(max_connections=max_connections),
        )
        self._closed = threading.Event()
        self._sockets: WeakSet[socket.socket] = WeakSet()

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
        request = self._options.request(content)
        retries: list[str] = []
        while True:
            try:
                return replace(self._once(request), retries=tuple(retries))
            except BadReplyError as error:
                if self._closed.is_set():
                    raise RequestCancelledError("the endpoint is closed") from None
                message = self._without_key(str(error))
                if not error.is_retryable or len(retries) + 1 >= self._options.max_attempts:
                    raise QuestionFailedError(error.kind, message, tuple(retries)) from None
                retries.append(error.kind)
                if self._closed.wait(wait_seconds(error.retry_after, len(retries))):
                    raise RequestCancelledError("the endpoint is closed") from None

    def close(self) -> None:
        """End what is under way, in all threads."""
        self._closed.set()
        # Closing a socket does not wake a thread that reads it, shutting it down does.
        for one in list(self._sockets):
            _shut_down(one)
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _once(self, request: Mapping[str, Any]) -> Reply:
        import httpx2

        until = time.monotonic() + self._options.timeout_seconds
        try:
            with self._client.stream(
                "POST", self._url, json=request, extensions={"trace": self._trace}
            ) as response:
                if response.status_code == httpx2.codes.OK:
                    reply = read_reply(response, until=until)
                    return replace(reply, text=self._without_key(reply.text))
                return self._read_error(response, until=until)
        except httpx2.TimeoutException:
            raise BadReplyError("timeout", self._too_slow()) from None
        except httpx2.RemoteProtocolError as error:
            raise BadReplyError("truncated", f"the connection ended too early: {error}") from None
        except (httpx2.TransportError, RuntimeError) as error:
            # RuntimeError: of a client that was closed meanwhile.
            raise BadReplyError("connection", f"cannot reach the endpoint: {error}") from None

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Learn of each socket as it is made."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            made = info["return_value"].get_extra_info("socket")
            self._sockets.add(made)
            if self._closed.is_set():  # meanwhile
                _shut_down(made)

    def _read_error(self, response: httpx2.Response, *, until: float) -> Reply:
        """Return what a status other than 200 says of the question, or raise."""
        status = response.status_code
        code, message = error_of_body(read_body(response, until=until))
        said = self._without_key(f"the endpoint answered {status}: {message}")
        if status in _KEY_ERRORS:
            raise InvalidRequestError(f"{said}; is the API key in the environment the right one?")
        if status == 404:
            raise InvalidRequestError(
                f"{said}; look at --endpoint, which ends before /chat/completions, and at --model"
            )
        if status == 429 and code == _NO_MONEY:
            raise GroundserveError(f"{said}; go on when the account has money again")
        if code == _FILTERED:
            return Reply(text="", is_refused=True, finish_reason=_FILTERED, usage=None)
        if status in _RETRIED or status >= 500:
            kind = "rate_limited" if status == 429 else "server_error"
            raise BadReplyError(
                kind, said, retry_after=parse_retry_after(response.headers.get("retry-after"))
            )
        raise BadReplyError("rejected", said, is_retryable=False)

    def _too_slow(self) -> str:
        return f"no reply within {self._options.timeout_seconds:g} s (timeout_seconds)"

    def _without_key(self, text: str) -> str:
        """Return a text from the endpoint without the key, which errors may repeat."""
        key = self._options.api_key
        return text.replace(key, "***") if key else text


def _shut_down(one: socket.socket) -> None:
    with suppress(OSError):  # closed, or handed on to TLS
        one.shutdown(socket.SHUT_RDWR)
