"""Fetch a video from a URL that a caller names, and reach by it only what an operator allows.

A URL is refused unless it is written plainly and its host is allowed. Names are resolved once: all
addresses are checked, and one of those that were checked is connected to. So is each redirect.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urljoin

from groundserve.errors import (
    InvalidRequestError,
    MediaError,
    MissingExtraError,
    UnavailableError,
)
from groundserve.limits import Limits
from groundserve.runtime.deadline import Deadline

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")
logger = logging.getLogger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Reason = Literal["refused", "unreachable", "too_large", "too_slow"]

_MAX_URL_BYTES = 4096
_CONNECT_SECONDS = 10.0
_MAX_ADDRESSES = 4
"""Tried of one host."""
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# The last label begins with a letter: what ends in a number is an IPv4 address to some.
_NAME = rf"(?=[^:/]{{1,253}}(?:[:/]|$))(?:{_LABEL}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?"
_HOST = rf"{_NAME}|[0-9.]+|\[[0-9a-f:.]+\]"
_URL = re.compile(rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?((?:[/?][^#]*)?)(?:#.*)?", re.I)
_PATTERN = re.compile(rf"(?:(https?)://)?(\*|(?:\*\.)?(?:{_HOST}))(?::([0-9]{{1,5}}|\*))?", re.I)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Global by their number, and yet no public host's: transition mechanisms, which lead to any IPv4
# address, documentation, relays, and what some clouds serve secrets at.
_NOT_PUBLIC: tuple[Network, ...] = tuple(
    ipaddress.ip_network(one)
    for one in (
        *("2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20", "192.0.0.0/24"),
        *("192.88.99.0/24", "168.63.129.16/32"),
    )
)

_WORDS: dict[Reason, str] = {
    "refused": "the video's URL may not be fetched: it must be plain, such as "
    "https://videos.example.com/a.mp4, and of a host that is allowed (--allow-host)",
    "unreachable": "the video cannot be fetched: no public host (or one of --allow-network) sent "
    "it whole",
    "too_large": "the video behind the URL has more bytes than may be fetched",
    "too_slow": "the video behind the URL did not come in time",
}


class FetchError(MediaError):
    """The video of a URL cannot be had; the message tells nothing of networks or upstreams."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(_WORDS[reason])
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[type[FetchError], tuple[Reason], dict[str, Any]]:
        return type(self), (self.reason,), self.__dict__


@dataclass(frozen=True, kw_only=True)
class FetchPolicy:
    """What an operator lets URLs lead to, and how much of it; by default nothing."""

    hosts: tuple[str, ...] = ()
    """Patterns [SCHEME://]HOST[:PORT] as `--allow-host` takes them: the scheme is https and the
    port the scheme's unless given, a port may be `*`; HOST is a name, an address, `*.NAME` for all
    below a name, or `*` for all."""
    networks: tuple[str, ...] = ()
    """Of addresses that are not public those that may be connected to, such as 10.1.0.0/16."""
    max_bytes: int = Limits().max_file_bytes
    max_seconds: float = 600.0
    """For all of it: names, redirects, the last byte."""
    max_redirects: int = 5

    def __post_init__(self) -> None:
        for pattern in self.hosts:
            if not _PATTERN.fullmatch(pattern):
                raise InvalidRequestError(
                    "--allow-host must be [http://]HOST[:PORT] with a name, an address, *.NAME or "
                    f"*, got {pattern!r}"
                )
        for network in self.networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise InvalidRequestError(
                    f"--allow-network must be a network such as 10.1.0.0/16, got {network!r}"
                ) from error

    def allows_host(self, url: Url) -> bool:
        """Tell whether a pattern has the scheme, the host and the port."""
        return any(_matches(pattern, url) for pattern in self.hosts)

    def allows_address(self, address: Address) -> bool:
        """Tell whether an address is public, or of a network that the operator names."""
        return is_public(address) or any(
            address in ipaddress.ip_network(network) for network in self.networks
        )


NO_URLS = FetchPolicy()


@dataclass(frozen=True, kw_only=True)
class Url:
    """The parts of a URL that is written plainly."""

    scheme: str
    host: str
    """In lower case; an address without brackets."""
    port: int
    target: str
    """Path and query."""

    @classmethod
    def parse(cls, text: str) -> Url:
        """Take a URL apart, or refuse what two readers could take for two hosts.

        Raises:
            FetchError: It has a user, a backslash, a blank, a control or non-ASCII character, a
                zone, a host that is neither a name nor an address in its usual form, or another
                scheme than http and https.
        """
        is_plain = re.fullmatch(r"[!-~]+", text) and "\\" not in text
        parts = _URL.fullmatch(text) if is_plain and len(text) <= _MAX_URL_BYTES else None
        if parts is None:
            raise FetchError("refused")
        scheme, host = parts[1].lower(), parts[2].lower().strip("[]")
        port = int(parts[3]) if parts[3] else _PORTS[scheme]
        is_name = re.fullmatch(_NAME, host) is not None
        if not 0 < port < 65536 or not (is_name or as_address(host)):
            raise FetchError("refused")
        target = parts[4] if parts[4].startswith("/") else f"/{parts[4]}"
        return cls(scheme=scheme, host=host, port=port, target=target)

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def is_url(text: str) -> bool:
    """Tell whether a video is named by what is to be fetched."""
    return text.lower().startswith(("http://", "https://"))


def without_secrets(url: str) -> str:
    """Return what a URL may be called in answers and files: without user, query and fragment."""
    return re.sub(r"(?<=://)[^/?#]*@", "", re.split(r"[?#]", url, maxsplit=1)[0])


def is_public(address: Address) -> bool:
    """Tell whether an address is of a host that anybody on the internet reaches."""
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def as_address(host: str) -> Address | None:
    """Return the address that a host is, in its usual spelling; None of a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def resolve(host: str) -> list[Address]:
    """Return the addresses of a name."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(one[4][0]) for one in found))


@asynccontextmanager
async def open_url(
    text: str,
    policy: FetchPolicy,
    *,
    deadline: Deadline | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield what a URL leads to, piece by piece as it comes.

    No proxy or password of the environment is used, no cookie kept, and nothing decompressed.

    Args:
        text: The URL.
        policy: What is allowed.
        deadline: Looked at with each piece.
        ssl_context: Whom to trust; as httpx does where None.

    Raises:
        FetchError: It may not be fetched, or cannot.
        DeadlineExceededError, RequestCancelledError: As `deadline` says.
        MissingExtraError: httpx2 is not installed.
    """
    try:
        import httpcore2
    except ImportError as error:
        raise MissingExtraError("client", "httpx2") from error
    url = Url.parse(text)
    clock = _Clock(policy.max_seconds, deadline)
    pool = httpcore2.AsyncConnectionPool(
        ssl_context=ssl_context, network_backend=_backend(policy), max_keepalive_connections=0
    )
    async with pool:
        for _ in range(policy.max_redirects + 1):
            if not policy.allows_host(url):
                raise FetchError("refused")
            async with AsyncExitStack() as stack:
                response = await clock.within(stack.enter_async_context(_request(pool, url)))
                given = {name.lower(): value for name, value in response.headers}
                if response.status not in _REDIRECTS or b"location" not in given:
                    _check(response.status, given, policy)
                    yield _pieces(response, policy, clock)
                    return
                url = Url.parse(_joined(url, given[b"location"]))
    raise FetchError("unreachable")


async def fetch(text: str, file: IO[bytes], policy: FetchPolicy, **options: Any) -> None:
    """Write what a URL leads to into a file; for options and errors see `open_url`.

    After an error there is a part of it in the file. UnavailableError: it cannot be written.
    """
    async with open_url(text, policy, **options) as pieces:
        async for piece in pieces:
            try:
                file.write(piece)
            except OSError as error:
                raise UnavailableError(
                    f"the video cannot be kept: {os.strerror(error.errno or 0)}; try again later"
                ) from error
    file.flush()


def fetch_file(
    text: str, file: IO[bytes], policy: FetchPolicy, *, deadline: Deadline | None = None
) -> None:
    """Do what `fetch` does, for callers without an event loop."""
    asyncio.run(fetch(text, file, policy, deadline=deadline))


class _Clock:
    """Bounds all waits of one fetch together, and puts what a network says into our words."""

    def __init__(self, seconds: float, deadline: Deadline | None) -> None:
        self._deadline = deadline
        self._own = Deadline.after(seconds)

    async def within(self, wait: Awaitable[T]) -> T:
        """Wait for one thing."""
        import anyio
        import httpcore2

        seconds = self._own.remaining_seconds()
        if self._deadline is not None:
            self._deadline.check()
            seconds = min(seconds, self._deadline.remaining_seconds())
        try:
            with anyio.fail_after(seconds):
                return await wait
        except TimeoutError:
            if self._deadline is not None:
                self._deadline.check()
            raise FetchError("too_slow") from None
        except (
            *(httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException),
            *(httpcore2.UnsupportedProtocol, OSError),
        ) as error:
            logger.info("a video could not be fetched: %s", type(error).__name__)
            raise FetchError("unreachable") from None


def _request(pool: Any, url: Url) -> AbstractAsyncContextManager[Any]:
    import httpcore2

    headers = {
        "Host": url.authority,
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "User-Agent": "groundserve",
    }
    host, target = url.host.encode(), url.target.encode()
    where = httpcore2.URL(scheme=url.scheme.encode(), host=host, port=url.port, target=target)
    response: AbstractAsyncContextManager[Any] = pool.stream(
        "GET", where, headers=headers, extensions={"timeout": {"connect": _CONNECT_SECONDS}}
    )
    return response


def _check(status: int, headers: Mapping[bytes, bytes], policy: FetchPolicy) -> None:
    if status != 200 or headers.get(b"content-encoding", b"identity") != b"identity":
        logger.info("a video could not be fetched: status %d", status)
        raise FetchError("unreachable")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length[:20]) > policy.max_bytes:
        raise FetchError("too_large")


async def _pieces(response: Any, policy: FetchPolicy, clock: _Clock) -> AsyncIterator[bytes]:
    num_bytes, stream = 0, response.aiter_stream()
    while (piece := await clock.within(anext(stream, None))) is not None:
        num_bytes += len(piece)
        if num_bytes > policy.max_bytes:
            raise FetchError("too_large")
        yield piece


def _joined(url: Url, location: bytes) -> str:
    # Before it is joined: `urljoin` takes some characters away without a word.
    if not re.fullmatch(rb"[!-~]+", location) or b"\\" in location:
        raise FetchError("refused")
    try:
        return urljoin(str(url), location.decode("ascii"))
    except ValueError:
        raise FetchError("refused") from None


def _backend(policy: FetchPolicy) -> Any:
    """Make what connects to none but checked addresses; TLS then verifies the host's name."""
    import anyio
    import httpcore2

    async def addresses_of(host: str) -> list[Address]:
        if address := as_address(host):
            return [address]
        # Whoever stops waiting does not wait for the resolver's own patience.
        return await anyio.to_thread.run_sync(resolve, host, abandon_on_cancel=True)

    class Backend(httpcore2.AnyIOBackend):
        async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Any:
            addresses = await addresses_of(host)
            if not addresses or not all(map(policy.allows_address, addresses)):
                raise FetchError("unreachable")
            return await _connect_to_any(
                addresses,
                lambda address: super(Backend, self).connect_tcp(
                    str(address), port, *args, **options
                ),
            )

    return Backend()


async def _connect_to_any(addresses: Iterable[Address], connect: Callable[[Address], Any]) -> Any:
    import httpcore2

    failure: Exception = httpcore2.ConnectError("no address")
    for address in list(addresses)[:_MAX_ADDRESSES]:
        try:
            return await connect(address)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            failure = error
    raise failure


def _matches(pattern: str, url: Url) -> bool:
    parts = _PATTERN.fullmatch(pattern)
    assert parts is not None, "the policy has looked at it"
    scheme, host = (parts[1] or "https").lower(), parts[2].lower().strip("[]")
    port = parts[3] or str(_PORTS[scheme])
    if url.scheme != scheme or port not in ("*", str(url.port)):
        return False
    if host.startswith("*"):
        return url.host.endswith(host[1:])
    address = as_address(host)
    return url.host == host if address is None else as_address(url.host) == address
