"""The application as a server of HTTP: uvicorn, and connections that say too little are closed."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.gateway.app import create_app
from groundserve.gateway.settings import GatewaySettings
from groundserve.gateway.work import Desk
from groundserve.serving.ports import check_ports, listen

_BACKLOG = 128
_KEEP_ALIVE_SECONDS = 15
_STOP_SECONDS = 5
"""How long requests in flight may go on when the gateway is told to stop."""
_START_SECONDS = 60.0
_MAX_HEAD_BYTES = 64 * 1024
_MAX_CRUMBS = 1000
_CRUMB_BYTES = 256


class GatewayServer:
    """A gateway that listens from when it is made; `run` or `running` have it answer."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Take the port and open the spool; raises what is wrong with the settings."""
        check_ports(gateway=settings.port)
        self.app = create_app(settings)
        self._desk: Desk = self.app.state.gateway
        self._socket = listen("gateway", settings.host, settings.port, _BACKLOG)
        # Which connections take over: head and body of an answer are two packets, and the second
        # would wait 40 ms for the first to be acknowledged. asyncio sets it for others' sockets.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.videos_dir = self._desk.spool.videos_dir
        """What servers must be allowed to read."""
        scheme = "https" if settings.tls_certificate else "http"
        self.url = f"{scheme}://{settings.host}:{self._socket.getsockname()[1]}"
        tls = {"ssl_certfile": settings.tls_certificate, "ssl_keyfile": settings.tls_key}
        config = uvicorn.Config(
            self.app,
            http=_protocol(settings),
            ws="websockets-sansio" if settings.has_page else "none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
            **(tls if settings.tls_certificate else {}),  # type: ignore[arg-type]
        )
        try:
            config.load()
        except OSError as error:  # which ssl.SSLError is
            self._socket.close()
            raise InvalidRequestError(
                f"--tls-certificate and --tls-key must be a certificate and its key: {error}"
            ) from error
        self._server = uvicorn.Server(config)
        self._loop = asyncio.new_event_loop()

    def run(self) -> None:
        """Answer until it is told to stop, in the main thread by SIGINT or SIGTERM."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._server.serve(sockets=[self._socket]))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Answer in a thread for as long as the context lasts."""
        thread = threading.Thread(target=self.run, name="gateway", daemon=True)
        thread.start()
        give_up_at = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not thread.is_alive() or time.monotonic() > give_up_at:
                raise UnavailableError("the gateway did not start")
            time.sleep(0.01)
        try:
            yield
        finally:
            self._server.should_exit = True
            thread.join()

    def add(self, url: str) -> None:
        """Take in a server, and return when it gets requests.

        To be called while the gateway answers, from another thread; as `drain`.
        """
        self._await(self._desk.upstreams.add(url))

    def drain(self, url: str) -> None:
        """Send a server nothing new, and return when it has answered all."""
        self._await(self._desk.upstreams.drain(url))

    def _await(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Requests(h11.Connection):
    """Refuses two lengths of one body, which a proxy before us may read otherwise, and crumbs.

    To parse a chunk of one byte takes as long as to parse many bytes.
    """

    def next_event(self) -> Any:
        """Return the next event of the connection; h11.RemoteProtocolError breaks it off."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._num_left = _MAX_CRUMBS * _CRUMB_BYTES
            if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        elif isinstance(event, h11.Data) and event.chunk_start:
            self._num_left += len(event.data) - _CRUMB_BYTES
            if self._num_left < 0:
                raise h11.RemoteProtocolError("too many small chunks")
        return event


def _max_connections(wanted: int) -> int:
    """Allow this process as many files as it may have; return how many may be connections."""
    # Without a file left, nothing is accepted, stored, or sent to a server. Shells allow 1024, for
    # programs that use select(2).
    _, max_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, max_files))
    return min(wanted, max_files // 2)


class _Protocol(H11Protocol):
    """Closes a connection whose next request does not begin, or not in time."""

    settings: GatewaySettings
    most: int
    """Connections at one time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Requests(h11.SERVER, _MAX_HEAD_BYTES)
        self.waits_since = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._num_left = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()
        if len(self.connections) > self.most:
            every: Any = self.connections
            idle = [one for one in every if one._timer and not one.transport.is_closing()]
            min(idle, key=lambda one: one.waits_since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is self:
            self._look()
        elif self._timer:  # it became a web socket, which has pings of its own
            self._timer.cancel()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # it is answered already
            self.transport.abort()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        """Give the next request's head its time; none of a request is under way."""
        is_asked = self.cycle is not None and not self.cycle.response_complete
        if is_asked and self._timer:
            self._timer.cancel()
            self._timer = None
        elif not is_asked and not self._timer:
            self.waits_since = time.monotonic()
            later = asyncio.get_running_loop().call_later
            self._timer = later(self.settings.head_seconds, self._end)

    def _end(self) -> None:
        """Close, unless the last answer is still being read."""
        left, now = self.transport.get_write_buffer_size(), time.monotonic()
        if left != self._num_left:
            self._num_left, self.waits_since = left, now
        if not left or now - self.waits_since > self.settings.body_seconds:
            self.transport.abort()
        else:
            later = asyncio.get_running_loop().call_later
            self._timer = later(self.settings.head_seconds, self._end)


def _protocol(settings: GatewaySettings) -> type[asyncio.Protocol]:
    values = {"settings": settings, "most": _max_connections(settings.max_connections)}
    return type("Protocol", (_Protocol,), values)
