"""What both clients are made of, and how they read what a caller gives."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping

from groundserve.answers import OnText
from groundserve.arguments import check_timeout, described
from groundserve.client._connection import Connection
from groundserve.client._exchange import Arrival, Exchange
from groundserve.client._request import Request, Result
from groundserve.errors import InvalidRequestError
from groundserve.extras import load
from groundserve.runtime.deadline import Deadline

DEFAULT_URL = "grpc://127.0.0.1:8001"
DEFAULT_TIMEOUT_SECONDS = 600.0


class BaseClient:
    """A connection and the settings of all its requests."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        retries: int = 0,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        root_certificates: str | os.PathLike[str] | None = None,
    ) -> None:
        """Connect lazily; nothing is sent before the first call.

        Args:
            url: `grpc://HOST:PORT`, or `grpcs://` for TLS, which a proxy before the server ends; of
                a gateway `http://HOST:PORT` or `https://`.
            timeout_seconds: Longest time one `score` or `ask` may take, waits and retries included;
                also the request's deadline at the server.
            retries: How often one that ended with UnavailableError begins again, after waits of
                about 0.5, 1, 2, 4 and then 8 s, drawn from the upper half of each. No other error
                is tried again. (A call whose connection breaks under it is made once more at once,
                whatever is given here.)
            api_key: Of a gateway; sent with each call as {"authorization": "Bearer KEY"}.
            headers: Sent with each call, such as {"authorization": "Bearer ..."}.
            root_certificates: PEM file of those whom `grpcs://` and `https://` trust; the system's
                where None.

        Raises:
            InvalidRequestError: The URL has another form, the timeout is not above 0 and finite,
                retries is no whole number >= 0, or a header or the file of certificates is none.
            MissingExtraError: tritonclient, or for a gateway httpx2, is not installed.
        """
        self._timeout_seconds = check_timeout(timeout_seconds)
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise InvalidRequestError(
                f"retries must be a whole number >= 0, got {described(retries)}"
            )
        self._retries = retries
        if api_key is not None:
            headers = {**(headers or {}), "authorization": f"Bearer {api_key}"}
        is_gateway = isinstance(url, str) and url.startswith(("http://", "https://"))
        connect: type[Connection] = Connection
        if is_gateway:
            connect = load("groundserve.client._gateway", "client").GatewayConnection
        self._connection = connect(url, headers=headers, root_certificates=root_certificates)

    def _exchange(
        self,
        request: Request[Result],
        deliver: Callable[[Arrival], None],
        timeout_seconds: float | None,
        on_text: OnText | None,
    ) -> Exchange[Result]:
        """Return what takes a request to its end; its time begins now."""
        seconds = self._timeout_seconds
        if timeout_seconds is not None:
            seconds = check_timeout(timeout_seconds)
        if inspect.iscoroutinefunction(on_text):
            raise InvalidRequestError("on_text must be a function, and no async one")
        self._connection.check_process()
        self._connection.check_open()
        return Exchange(
            connection=self._connection,
            deadline=Deadline.after(seconds),
            retries=self._retries,
            request=request,
            is_streamed=on_text is not None,
            deliver=deliver,
        )
