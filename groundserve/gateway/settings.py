"""What an operator sets, looked at before anything starts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from pathlib import Path

from groundserve.arguments import parse_url
from groundserve.errors import InvalidRequestError
from groundserve.fetching import FetchPolicy
from groundserve.gateway.video_llms import VideoLlm
from groundserve.limits import GIB, MIB


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """All of a gateway's settings; the command line has an option for each of the first ones."""

    upstreams: tuple[str, ...] = ()
    """`grpc://HOST:PORT` of each server."""
    spool_dir: Path
    """Where uploads and jobs are kept; the servers must be allowed to read below it."""
    keys_file: Path | None = None
    """See `access`; None: open to everybody who reaches it."""
    host: str = "127.0.0.1"
    """Address to listen at: loopback only, where there are no keys."""
    port: int = 8080
    allow_hosts: tuple[str, ...] = ()
    """Patterns of hosts that a `video_url` may name."""
    allow_networks: tuple[str, ...] = ()
    """Networks that are not public and may be reached all the same."""
    video_llms: tuple[VideoLlm, ...] = ()
    """Models elsewhere that chat requests may name."""
    has_page: bool = False
    """Whether there is a web page at `/`; one gateway of a process may have it."""
    batch_dirs: tuple[str, ...] = ()
    """Run directories of `groundserve batch` that the page tells about."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call; "*" is every one."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    logs_questions: bool = False
    """Whether the line of a request has the questions."""
    max_video_bytes: int = 4 * GIB
    """Of one upload, or of what a URL gives."""
    max_spool_bytes: int = 64 * GIB
    """Of all videos together."""
    max_age_seconds: float = 24 * 3600.0
    """How long a video is kept after its last use, and a job after its end."""
    max_running: int = 16
    """Requests at one upstream at one time; `front` works on as many."""
    max_waiting: int = 64
    """Requests that wait for a place; the next one is refused."""
    max_running_jobs: int = 8
    """Background jobs at work at one time."""
    max_request_seconds: float = 600.0
    """Longest time one request may take at the servers."""
    max_body_bytes: int = 1 * MIB
    """Of JSON, and of all fields of a form beside the file."""
    max_result_bytes: int = 1 * GIB
    """Of the kept results of jobs together; the oldest make room."""
    body_seconds: float = 20.0
    """How long a body may stand still; `min_body_rate` bounds the whole."""
    min_body_rate: float = 16_384.0
    """Bytes a second that a body must come with on the whole."""
    head_seconds: float = 10.0
    """How long a connection may be open without a complete request head."""
    max_connections: int = 1024
    """Open at one time; of more, the one that has been idle longest is closed."""

    @property
    def fetch_policy(self) -> FetchPolicy:
        """What a `video_url` may lead to."""
        hosts, networks = self.allow_hosts, self.allow_networks
        return FetchPolicy(hosts=hosts, networks=networks, max_bytes=self.max_video_bytes)

    def __post_init__(self) -> None:
        self.fetch_policy  # noqa: B018 - which looks at its patterns
        for url in self.upstreams:
            parse_url("upstream (--upstream)", url)
        for field in fields(self):
            is_bound = field.name.startswith(("max_", "min_")) or field.name.endswith("_seconds")
            if is_bound and not (value := getattr(self, field.name)) > 0:
                raise InvalidRequestError(f"{field.name} must be > 0, got {value!r}")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InvalidRequestError("give both of --tls-certificate and --tls-key, or neither")
        try:
            is_loopback = ipaddress.IPv4Address(self.host).is_loopback
        except ValueError as error:
            raise InvalidRequestError(
                f"host (--host) must be an IPv4 address, got {self.host!r}"
            ) from error
        if self.keys_file is None and not is_loopback:
            raise InvalidRequestError(
                f"host (--host) must be a loopback address without keys, got {self.host}; "
                "make some with: groundserve gateway-key, and give --keys"
            )
