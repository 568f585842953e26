"""The server behind a gateway of its own host, and the one that takes its place."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from groundserve.errors import GroundserveError
from groundserve.serving import Supervisor, TritonServer
from groundserve.serving.events import log_event
from groundserve.serving.status import StatusBoard

if TYPE_CHECKING:  # it needs the extra `gateway`
    from groundserve.gateway.server import GatewayServer

_STOP_SECONDS = 60.0
_TURN_SECONDS = 1.0


class KeptServer:
    """A server with its supervisor, in a thread: its processes end with the thread's end."""

    def __init__(
        self, server: TritonServer, board: StatusBoard, on_end: Callable[[], None]
    ) -> None:
        """Begin; a server that is not started yet is. `on_end` hears that it ended by itself."""
        self.server = server
        self.error: Exception | None = None
        """Why it could not start, or ended."""
        self._board, self._on_end = board, on_end
        self._supervisor: Supervisor | None = None
        self._is_stopping = False
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._thread.start()

    def wait_until_ready(self) -> str:
        """Return what the gateway calls it when it is ready, or raise why it cannot be."""
        self._has_begun.wait()
        if self.error is not None:
            raise self.error
        return f"grpc://{self.server.grpc_address}"

    def stop(self) -> None:
        """End it, also in the middle of its start."""
        self._is_stopping = True
        if self._supervisor is not None:
            self._supervisor.end()
        give_up_at = time.monotonic() + _STOP_SECONDS
        while self._thread.is_alive() and time.monotonic() < give_up_at:
            if self._supervisor is None:
                self.server.end_process()
            self._thread.join(0.1)

    def _run(self) -> None:
        try:
            with self.server:
                self._supervisor = Supervisor(self.server, self._board)
                self._has_begun.set()
                if not self._is_stopping:
                    self._supervisor.run()
        except Exception as error:  # noqa: BLE001 - told to who waits
            self.error = error
        self._has_begun.set()
        if not self._is_stopping:
            self._on_end()


class LocalServers:
    """One server after another behind one gateway.

    `watch` is the main thread's; it ends with KeyboardInterrupt, as `Supervisor.run` does.
    """

    def __init__(
        self, gateway: GatewayServer, make: Callable[[], TritonServer], board: StatusBoard
    ) -> None:
        """Take what makes a server at ports that are free."""
        self._gateway, self._make, self._board = gateway, make, board
        self._events: SimpleQueue[bool] = SimpleQueue()
        """Whether a switch is wanted; otherwise a server has ended."""
        self._current: KeptServer
        self._next: KeptServer | None = None

    def begin(self, server: TritonServer) -> None:
        """Keep the first server, which is started, and send the gateway's requests there."""
        self._current = self._keep(server)
        self._gateway.add(self._current.wait_until_ready())

    def want_switch(self, *_: object) -> None:
        """Have `watch` switch; for a signal's handler."""
        self._events.put(True)

    def watch(self) -> None:
        """Switch as often as it is wanted; raises when the server or the gateway ends."""
        while True:
            if self._wants_switch():
                self._switch()
            if self._current.error is not None:
                raise self._current.error

    def stop(self) -> None:
        """End all servers."""
        for one in (self._current, self._next):
            if one is not None:
                one.stop()

    def _wants_switch(self) -> bool:
        # In turns: a signal that another thread gets, or that comes just before the wait, does not
        # end it, and its handler runs in this thread.
        try:
            return self._events.get(timeout=_TURN_SECONDS)
        except Empty:
            return False

    def _switch(self) -> None:
        started = time.monotonic()
        old = self._current
        log_event("switch_begins")
        self._next = self._keep(self._make())
        try:
            self._gateway.add(self._next.wait_until_ready())
            self._gateway.drain(f"grpc://{old.server.grpc_address}")
        except (GroundserveError, OSError) as error:
            log_event("switch_failed", level=logging.ERROR, reason=str(error))
            self._next.stop()
            self._next = None
            return
        self._current, self._next = self._next, None
        old.stop()
        seconds = round(time.monotonic() - started, 3)
        log_event("switched", pid=self._current.server.pid, seconds=seconds)

    def _keep(self, server: TritonServer) -> KeptServer:
        return KeptServer(server, self._board, lambda: self._events.put(False))
