"""Which URLs a video may be fetched from: what an operator allows, and nothing else.

`url_reader` fetches them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import IO, TYPE_CHECKING, Literal

from groundserve import extras
from groundserve.errors import InvalidRequestError, MediaError
from groundserve.limits import Limits

if TYPE_CHECKING:
    import httpx2

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Reason = Literal["refused", "unreachable", "too_large", "too_slow"]

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# The last label begins with a letter: what ends in a number is an IPv4 address to some.
_NAME = rf"(?:{_LABEL}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?"
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Global by their number, and yet no public host's: transition mechanisms, which lead to any IPv4
# address, documentation, relays, and what some clouds serve secrets at.
_NOT_PUBLIC = tuple(
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

    @property
    def reason(self) -> Reason:
        """What it is made with."""
        reason: Reason = self.args[0]
        return reason

    def __str__(self) -> str:
        return _WORDS[self.reason]


@dataclass(frozen=True, kw_only=True)
class FetchPolicy:
    """What an operator lets URLs lead to, and how much of it; by default nothing."""

    hosts: tuple[str, ...] = ()
    """Patterns [SCHEME://]HOST[:PORT], the scheme https unless given, with `*` for any characters;
    a port other than the scheme's own must be in them."""
    networks: tuple[str, ...] = ()
    """Of addresses that are not public those that may be connected to, such as 10.1.0.0/16."""
    max_bytes: int = Limits().max_file_bytes
    max_seconds: float = 600.0
    """For all of it: names, redirects, the last byte."""
    max_redirects: int = 5

    def __post_init__(self) -> None:
        for pattern in self.hosts:
            if not re.fullmatch(r"(https?://)?[a-z0-9_.:*\[\]-]+", pattern):
                raise InvalidRequestError(
                    f"--allow-host must be [http://]HOST[:PORT] in lower case, got {pattern!r}"
                )
        for network in self.networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise InvalidRequestError(
                    f"--allow-network must be a network such as 10.1.0.0/16, got {network!r}"
                ) from error

    def allows_host(self, url: httpx2.URL) -> bool:
        """Tell whether a pattern has the scheme, the host and the port."""
        origin = f"{url.scheme}://{url.netloc.decode()}"
        full = [one if "://" in one else f"https://{one}" for one in self.hosts]
        return any(fnmatchcase(origin, pattern.replace("[", "[[]")) for pattern in full)

    def allows_address(self, address: Address) -> bool:
        """Tell whether an address is public, or of a network that the operator names."""
        networks = map(ipaddress.ip_network, self.networks)
        return is_public(address) or any(address in network for network in networks)


NO_URLS = FetchPolicy()


def parse_url(text: str) -> httpx2.URL:
    """Take a URL apart, or raise FetchError of what two readers could take for two hosts.

    Such are users, zones, backslashes, blanks, what is not ASCII, and addresses in any but their
    usual form.
    """
    httpx2 = extras.httpx2
    try:
        # Without a bracket that closes none, and what some readers take for a slash.
        is_plain = re.fullmatch(r"https?://[!-Z^-~\[\]]+", text, re.I)
        url = httpx2.URL(text if is_plain else "")
    except httpx2.InvalidURL:
        raise FetchError("refused") from None
    is_host = re.fullmatch(_NAME, url.host) or (as_address(url.host) and "%" not in url.host)
    if not is_host or "@" in text.split("/")[2] or url.port == 0:
        raise FetchError("refused")
    return url


def is_url(text: str) -> bool:
    """Tell whether a video is named by what is to be fetched."""
    return text.lower().startswith(("http://", "https://"))


def without_secrets(url: str) -> str:
    """Return what a URL may be called in answers and files: without user, query and fragment."""
    return re.sub(r"(?<=://)[^/?#]*@", "", re.split(r"[?#]", url, maxsplit=1)[0])


def is_public(address: Address) -> bool:
    """Tell whether an address is of a host that anybody on the internet reaches."""
    is_unicast = address.version == 4 or address in _GLOBAL_UNICAST
    if not is_unicast or any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def as_address(host: str) -> Address | None:
    """Return the address that a host is, in its usual spelling; None of a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def fetch_file(text: str, file: IO[bytes], policy: FetchPolicy) -> None:
    """Write what a URL leads to into a file, where a part of it is after an error.

    FetchError: it may not be fetched, or cannot. UnavailableError: the file cannot be written.
    """
    fetch = extras.load("groundserve.url_reader", "client").fetch
    asyncio.run(fetch(text, file, policy))
