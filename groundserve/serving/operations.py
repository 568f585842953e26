"""The keeper's own HTTP endpoint: health for load balancers, and metrics of server and keeper.

It answers at once whatever the server does: while a model is loaded again, while tritonserver hangs
or is gone. It shows no request and takes none: GET and HEAD of three paths. One thread serves all
connections; where they are too many the oldest is closed, so that whoever opens many and says
nothing keeps nobody else from an answer.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from groundserve.serving.ports import check_ports, listen
from groundserve.serving.status import COUNTERS, StatusBoard

_MAX_CONNECTIONS = 256
# A turn of the loop accepts so many at most: a connection that asks is answered two turns later,
# before so many newer ones that it would be closed as the oldest.
_BACKLOG = 64
_REQUEST_SECONDS = 5.0  # of a whole connection, however often its client says something
_METRICS_SECONDS = 3.0  # Prometheus waits 10 s by default
_JSON, _TEXT = "application/json", "text/plain; version=0.0.4; charset=utf-8"


@contextmanager
def serve_operations(
    host: str, port: int, *, board: StatusBoard, metrics_address: Callable[[], str]
) -> Iterator[str]:
    """Answer in a thread for as long as the context lasts; yields HOST:PORT of this endpoint.

    Port 0 picks a free one; `metrics_address` says where tritonserver's metrics are now.
    """
    check_ports(metrics=port)
    endpoint = _Endpoint(board, metrics_address)
    with listen("metrics", host, port, _BACKLOG) as listener:
        loop, is_over = asyncio.new_event_loop(), asyncio.Event()

        async def serve() -> None:
            # Such as no descriptor left for a connection: stderr has one JSON object a line.
            loop.set_exception_handler(lambda *_: None)
            await asyncio.start_server(endpoint.answer, sock=listener, backlog=_BACKLOG)
            await is_over.wait()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve())

        thread = threading.Thread(target=run, name="operations", daemon=True)
        thread.start()
        try:
            yield f"{host}:{listener.getsockname()[1]}"
        finally:
            loop.call_soon_threadsafe(is_over.set)
            thread.join()


class _Endpoint:
    def __init__(self, board: StatusBoard, metrics_address: Callable[[], str]) -> None:
        self._board = board
        self._metrics_address = metrics_address
        self._open: dict[asyncio.StreamWriter, None] = {}  # the oldest first

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the first request of a connection, and close it."""
        self._open[writer] = None
        if len(self._open) > _MAX_CONNECTIONS:
            next(iter(self._open)).transport.abort()
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                method, path, *_ = [*head.decode("latin-1").split(" ", 2), "", ""]
                code, kind, text = await self._page(method, path.partition("?")[0])
                # The name of a file need not be text; in JSON this is an escape.
                body = text.encode(errors="backslashreplace")
                writer.write(
                    f"HTTP/1.1 {code} {HTTPStatus(code).phrase}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n"
                    "Connection: close\r\n\r\n".encode()
                )
                writer.write(b"" if method == "HEAD" else body)
                await writer.drain()
        # It went away, says too little in time, or too much.
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            del self._open[writer]
            writer.close()

    async def _page(self, method: str, path: str) -> tuple[int, str, str]:
        """Return status, content type and text."""
        if method not in {"GET", "HEAD"}:
            return 405, _TEXT, "only GET and HEAD\n"
        if path == "/health/live":
            return 200, _JSON, '{"live": true}\n'
        if path == "/health/ready":
            is_ready = self._board.is_ready
            answer = {"ready": is_ready, "problems": self._board.problems}
            return 200 if is_ready else 503, _JSON, json.dumps(answer, ensure_ascii=False) + "\n"
        if path == "/metrics":
            triton = await _read_metrics(self._metrics_address())
            return 200, _TEXT, _join_metrics(triton, self._board)
        return 404, _TEXT, "not found\n"


async def _read_metrics(address: str) -> str | None:
    """Return tritonserver's metrics, None where it does not answer in time."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_METRICS_SECONDS):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return None
    return body.decode("utf-8", errors="replace") if head.split(b" ")[1:2] == [b"200"] else None


def _join_metrics(triton: str | None, board: StatusBoard) -> str:
    """Return the server's metrics followed by the keeper's, whose names no model has."""
    lines = [triton or "", "" if (triton or "\n").endswith("\n") else "\n"]

    def family(name: str, kind: str, description: str, value: float) -> None:
        lines.append(f"# HELP {name} {description}\n# TYPE {name} {kind}\n{name} {value:g}\n")

    family("groundserve_ready", "gauge", "Whether all requests are served.", board.is_ready)
    family("groundserve_up", "gauge", "Whether tritonserver gave its metrics.", bool(triton))
    for name, description in COUNTERS.items():
        family(f"groundserve_{name}_total", "counter", description, board.counters[name])
    return "".join(lines)
