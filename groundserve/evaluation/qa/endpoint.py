"""An OpenAI-compatible chat endpoint, asked again where another try may help.

What it may do wrong, and what follows, stands in docs/evaluate.md.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from groundserve.errors import (
    GroundserveError,
    InvalidRequestError,
    MissingExtraError,
    RequestCancelledError,
)
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from groundserve.evaluation.qa.reply_stream import (
    BadReplyError,
    Reply,
    error_of_body,
    read_body,
    read_reply,
)
from groundserve.evaluation.qa.waits import parse_retry_after, wait_seconds
from groundserve.runtime.closing import Closing

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
_MAX_SAID = 300
"""Letters of what an endpoint says that a message repeats."""


class QuestionFailedError(GroundserveError):
    """The endpoint did not answer one question; it may answer others."""

    def __init__(self, kind: str, message: str, retries: tuple[str, ...]) -> None:
        super().__init__(message)
        self.kind = kind
        """As in `Reply.retries`, or "rejected"."""
        self.retries = retries
        """Of the tries before the last."""


class Endpoint(Closing):
    """Asks questions, from any number of threads."""

    def __init__(self, options: EndpointOptions, *, max_connections: int) -> None:
        """Connect lazily.

        Args:
            options: What to ask, and how patiently.
            max_connections: Threads that ask at one time.

        Raises:
            MissingExtraError: httpx2 is not installed.
            InvalidRequestError: The address is none after all, or the environment names a proxy or
                certificates that cannot be used.
        """
        try:
            import httpx2
        except ImportError as error:
            raise MissingExtraError("serve", "httpx2") from error
        self._options = options
        self._url = f"{options.url.rstrip('/')}/chat/completions"
        try:
            httpx2.URL(self._url)
        except httpx2.InvalidURL as error:
            raise InvalidRequestError(f"endpoint is no URL: {error}") from error
        headers = {"Accept": "text/event-stream, application/json"}
        if options.api_key is not None:
            headers["Authorization"] = f"Bearer {options.api_key}"
        seconds = options.timeout_seconds
        try:
            self._client = httpx2.Client(
                headers=headers,
                timeout=httpx2.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds)),
                # A try has a connection of its own, which can be cut when its time is over.
                limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=0),
                # Through a proxy https is a tunnel; of plain http the proxy would read the key.
                trust_env=options.url.startswith("https:"),
            )
        except (ImportError, ValueError, OSError) as error:
            raise InvalidRequestError(
                "cannot use the proxy or the certificates that the environment names (ALL_PROXY, "
                "HTTPS_PROXY, SSL_CERT_FILE, SSL_CERT_DIR, SSLKEYLOGFILE); a SOCKS proxy needs the "
                "package socksio"
            ) from error
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
                message = self._said(str(error))
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

    def _once(self, request: Mapping[str, Any]) -> Reply:
        import httpx2

        sockets: list[socket.socket] = []

        def trace(event: str, info: Mapping[str, Any]) -> None:
            """Learn of each socket as it is made."""
            if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
                made = info["return_value"].get_extra_info("socket")
                sockets.append(made)
                self._sockets.add(made)
                if self._closed.is_set():  # meanwhile
                    _shut_down(made)

        def cut() -> None:
            for one in sockets:
                _shut_down(one)

        until = time.monotonic() + self._options.timeout_seconds
        # The library bounds each read: headers that drip would be read for ever.
        timer = threading.Timer(self._options.timeout_seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            with self._client.stream(
                "POST", self._url, json=request, extensions={"trace": trace}
            ) as response:
                if response.status_code == httpx2.codes.OK:
                    reply = read_reply(response, until=until)
                    return replace(
                        reply,
                        text=self._without_key(reply.text),
                        finish_reason=self._without_key(reply.finish_reason or "") or None,
                    )
                return self._read_error(response, until=until)
        except httpx2.DecodingError as error:
            raise BadReplyError("broken", f"the reply cannot be unpacked: {error}") from None
        except (httpx2.TransportError, RuntimeError) as error:
            if isinstance(error, httpx2.TimeoutException) or time.monotonic() >= until:
                raise BadReplyError("timeout", self._too_slow()) from None
            if isinstance(error, httpx2.RemoteProtocolError):
                raise BadReplyError(
                    "truncated", f"the connection ended too early: {error}"
                ) from None
            # RuntimeError: of a client that was closed meanwhile.
            raise BadReplyError("connection", f"cannot reach the endpoint: {error}") from None
        finally:
            timer.cancel()

    def _read_error(self, response: httpx2.Response, *, until: float) -> Reply:
        """Return what a status other than 200 says of the question, or raise."""
        status = response.status_code
        code, message = error_of_body(read_body(response, until=until))
        said = f"the endpoint answered {status}: {self._said(message)}"
        if status in _KEY_ERRORS:
            raise InvalidRequestError(f"{said}; is the API key in the environment the right one?")
        if 300 <= status < 400:
            raise InvalidRequestError(
                f"{said}; it redirects, which is not followed, as the key would go elsewhere: "
                "look at --endpoint"
            )
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

    def _said(self, text: str) -> str:
        """Return as much of a text from the endpoint as a message repeats, without the key."""
        return self._without_key(text)[:_MAX_SAID]

    def _without_key(self, text: str) -> str:
        """Return a text from the endpoint without the key, which errors may repeat."""
        key = self._options.api_key
        return text.replace(key, "***") if key else text


def _shut_down(one: socket.socket) -> None:
    with suppress(OSError):  # closed, or handed on to TLS
        one.shutdown(socket.SHUT_RDWR)
