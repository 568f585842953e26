"""Read what a URL leads to, as far as `fetching.FetchPolicy` allows; needs httpx2.

Names are resolved once: all addresses are checked, and one of those that were checked is connected
to. So is each redirect.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import IO, Any, TypeVar
from urllib.parse import urljoin

import anyio
import httpcore2
import httpx2

from groundserve.errors import UnavailableError
from groundserve.fetching import Address, FetchError, FetchPolicy, as_address, parse_url
from groundserve.runtime.deadline import Deadline

T = TypeVar("T")
_CONNECT_SECONDS = 10.0
_MAX_ADDRESSES = 4
"""Tried of one host."""
_REDIRECTS = (301, 302, 303, 307, 308)


def resolve(host: str) -> list[Address]:
    """Return the addresses of a name."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(one[4][0]) for one in found))


@asynccontextmanager
async def open_url(
    text: str, policy: FetchPolicy, *, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield what a URL leads to, piece by piece as it comes, or raise FetchError.

    No proxy or password of the environment is used, no cookie kept, and nothing decompressed.
    `ssl_context` tells whom to trust; as httpx does where None.
    """
    url, deadline = parse_url(text), Deadline.after(policy.max_seconds)
    pool = httpcore2.AsyncConnectionPool(
        ssl_context=ssl_context, network_backend=_CheckedBackend(policy)
    )
    async with pool:
        for _ in range(policy.max_redirects + 1):
            if not policy.allows_host(url):
                raise FetchError("refused")
            async with AsyncExitStack() as stack:
                sent = stack.enter_async_context(_request(pool, url))
                response = await _within(deadline, sent)
                headers = {name.lower(): value for name, value in response.headers}
                if response.status not in _REDIRECTS or b"location" not in headers:
                    encoding = headers.get(b"content-encoding", b"identity")
                    if response.status != 200 or encoding != b"identity":
                        raise FetchError("unreachable")
                    if int(headers.get(b"content-length", b"0")) > policy.max_bytes:
                        raise FetchError("too_large")
                    yield _pieces(response, policy, deadline)
                    return
                location = headers[b"location"].decode("latin-1")
                # Before it is joined: `urljoin` takes some characters away without a word.
                if not re.fullmatch(r"[!-Z^-~\[\]]+", location):
                    raise FetchError("refused")
                url = _joined(url, location)
    raise FetchError("unreachable")


async def fetch(text: str, file: IO[bytes], policy: FetchPolicy, **options: Any) -> None:
    """Write what `open_url` gives into a file, where a part of it is after an error."""
    async with open_url(text, policy, **options) as pieces:
        async for piece in pieces:
            try:
                file.write(piece)
            except OSError as error:
                raise UnavailableError(
                    f"the video cannot be kept: {os.strerror(error.errno or 0)}; try again later"
                ) from error
    file.flush()


def _joined(url: httpx2.URL, location: str) -> httpx2.URL:
    try:
        return parse_url(urljoin(str(url), location))
    except ValueError:
        raise FetchError("refused") from None


async def _within(deadline: Deadline, wait: Awaitable[T]) -> T:
    """Wait until a deadline, and put what a network says into our words."""
    try:
        with anyio.fail_after(deadline.remaining_seconds()):
            return await wait
    except TimeoutError:
        raise FetchError("too_slow") from None
    except (
        *(httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException),
        OSError,
    ):
        raise FetchError("unreachable") from None


def _request(pool: Any, url: httpx2.URL) -> Any:
    return pool.stream(
        "GET",
        httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers={"Host": url.netloc, "Accept": "*/*", "Accept-Encoding": "identity"},
        extensions={"timeout": {"connect": _CONNECT_SECONDS}},
    )


async def _pieces(response: Any, policy: FetchPolicy, deadline: Deadline) -> AsyncIterator[bytes]:
    num_bytes, stream = 0, response.aiter_stream()
    while (piece := await _within(deadline, anext(stream, None))) is not None:
        num_bytes += len(piece)
        if num_bytes > policy.max_bytes:
            raise FetchError("too_large")
        yield piece


class _CheckedBackend(httpcore2.AnyIOBackend):
    """Connects to none but checked addresses; TLS then verifies the host's name."""

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy

    async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        address = as_address(host)
        # Whoever stops waiting does not wait for the resolver's own patience.
        addresses = (
            [address]
            if address
            else await anyio.to_thread.run_sync(resolve, host, abandon_on_cancel=True)
        )
        if not addresses or not all(map(self._policy.allows_address, addresses)):
            raise FetchError("unreachable")
        failure: Exception | None = None
        for one in addresses[:_MAX_ADDRESSES]:
            try:
                return await super().connect_tcp(str(one), port, *args, **options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        assert failure is not None, "there is an address"
        raise failure
