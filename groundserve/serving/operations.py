"""The keeper's own HTTP endpoint: health for load balancers, and metrics of server and keeper.

It answers at once whatever the server does: while a model is loaded again, while tritonserver hangs
or is gone. It shows no request and takes none: GET and HEAD of three paths.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from groundserve.errors import InvalidRequestError
from groundserve.serving.command import cannot_listen
from groundserve.serving.status import COUNTERS, ServiceStatus

_MAX_PORT = 65535
# Each has a thread.
_MAX_CONNECTIONS = 32
_CLIENT_TIMEOUT_SECONDS = 5.0
_REQUEST_SECONDS = 10.0  # of a whole connection, however often its client says something
_METRICS_TIMEOUT_SECONDS = 3.0  # Prometheus waits 10 s by default
_MAX_METRICS_BYTES = 16 * 1024**2
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@contextmanager
def serve_operations(
    host: str,
    port: int,
    *,
    status: Callable[[], ServiceStatus],
    metrics_address: Callable[[], str],
) -> Iterator[str]:
    """Answer in threads of this process for as long as the context lasts.

    Args:
        host: IPv4 address to listen on.
        port: Its port; 0 picks a free one.
        status: How the service is now.
        metrics_address: HOST:PORT of tritonserver's metrics now.

    Yields:
        HOST:PORT of this endpoint.

    Raises:
        InvalidRequestError: There is no such port.
        UnavailableError: The port is taken.
    """
    if not 0 <= port <= _MAX_PORT:
        raise InvalidRequestError(f"--metrics-port must be from 0 to {_MAX_PORT}, got {port}")

    class Handler(_Handler):
        pages: Mapping[str, Callable[[], _Page]] = {
            "/health/live": lambda: (200, "application/json", '{"live": true}\n'),
            "/health/ready": lambda: _readiness(status()),
            "/metrics": lambda: (
                200,
                _METRICS_TYPE,
                _join_metrics(_read_metrics(metrics_address()), status()),
            ),
        }

    try:
        server = _BoundedServer((host, port), Handler)
    except OSError as error:
        raise cannot_listen("metrics", host, port, error) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"{host}:{server.server_port}"
        finally:
            server.shutdown()


_Page = tuple[int, str, str]
"""Status, content type, text."""


class _BoundedServer(ThreadingHTTPServer):
    """Closes connections that are too many or take too long; a thread for each would be endless."""

    daemon_threads = True
    block_on_close = False  # who reads slowly must not hold up the end of the service
    request_queue_size = _MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the resolver for the name of this machine.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        # Refused, not waited for: this runs in the thread that accepts, and would hold up all
        # others.
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            with _cut_after(_REQUEST_SECONDS, request):
                super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that went away is not news."""


class _Handler(BaseHTTPRequestHandler):
    pages: Mapping[str, Callable[[], _Page]]
    timeout = _CLIENT_TIMEOUT_SECONDS
    server_version = "groundserve"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: stderr has one JSON object a line, of events."""

    def _answer(self) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        status, content_type, text = page() if page else (404, "text/plain", "not found\n")
        # The name of a file need not be text; in JSON this is an escape.
        body = text.encode(errors="backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _readiness(status: ServiceStatus) -> _Page:
    text = json.dumps({"ready": status.is_ready, "problems": status.problems}, ensure_ascii=False)
    return 200 if status.is_ready else 503, "application/json", f"{text}\n"


def _read_metrics(address: str) -> str | None:
    """Return tritonserver's metrics, None where it does not answer in time."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=_METRICS_TIMEOUT_SECONDS)
    with closing(connection):
        try:
            connection.connect()
            with _cut_after(_METRICS_TIMEOUT_SECONDS, connection.sock) as is_cut:
                connection.request("GET", "/metrics")
                response = connection.getresponse()
                text = response.read(_MAX_METRICS_BYTES).decode("utf-8", errors="replace")
        except (OSError, http.client.HTTPException):
            return None
    return None if is_cut.is_set() or response.status != http.client.OK else text


@contextmanager
def _cut_after(seconds: float, connected: socket.socket) -> Iterator[threading.Event]:
    """End a connection in time: its own time-out begins again with each piece that arrives."""
    is_cut = threading.Event()

    def cut() -> None:
        is_cut.set()
        with suppress(OSError):
            # Ends a read that another thread waits in, where closing the descriptor would not.
            connected.shutdown(socket.SHUT_RDWR)

    # A thread until then; `_MAX_CONNECTIONS` bounds how many there are.
    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield is_cut
    finally:
        timer.cancel()


def _join_metrics(triton: str | None, status: ServiceStatus) -> str:
    """Return the server's metrics followed by the keeper's, whose families it does not have."""
    text = triton or ""
    lines = [text if not text or text.endswith("\n") else f"{text}\n"]

    def family(name: str, kind: str, description: str, samples: Mapping[str, float]) -> None:
        # A family twice would make Prometheus refuse the whole page.
        if f"# TYPE {name} " in text:
            return  # a model counts it
        lines.append(f"# HELP {name} {description}\n# TYPE {name} {kind}\n")
        lines.extend(f"{name}{labels} {value:g}\n" for labels, value in samples.items())

    family("groundserve_ready", "gauge", "Whether all requests are served.", {"": status.is_ready})
    family("groundserve_up", "gauge", "Whether tritonserver gave its metrics.", {"": bool(triton)})
    for name, count in status.counters.items():
        family(f"groundserve_{name}_total", "counter", COUNTERS[name], {"": count})
    return "".join(lines)
