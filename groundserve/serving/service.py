"""What `groundserve serve` keeps: a server, watched, and replaced on request without an outage.

A switch, asked for by SIGHUP:

    1. the directory is resolved anew and checked; so is the memory for two servers
    2. a second server loads it, while the first serves and is watched     (a thread)
    3. when it is ready and all its processes live it gets the new connections
    4. the first gets no new ones; those it has move over as they grow old, and its requests end
    5. the first is stopped                                                 (a thread)

Until 3 any failure leaves the first server as it was. What is asked for during a switch happens
after it. All that is decided about a server is decided in the thread of `run`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from groundserve.errors import GroundserveError, UnavailableError
from groundserve.limits import Limits
from groundserve.manifest import Manifest
from groundserve.serving.command import MAX_CONNECTION_AGE_SECONDS
from groundserve.serving.events import log_event
from groundserve.serving.server import TritonServer
from groundserve.serving.signals import signals_deferred
from groundserve.serving.stall_watch import StallWatch
from groundserve.serving.status import ServiceStatus, StatusBoard
from groundserve.serving.steering import Steering
from groundserve.serving.supervisor import Supervisor

_POLL_SECONDS = 0.25
_JOIN_SECONDS = 9.0  # the end of a server takes less
_SERVER, _SWITCH, _ENGINES, _OLD_SERVER = "server", "switch", "engines", "old server"


class Service:
    """Servers at one pair of ports, one after another."""

    def __init__(self, server: TritonServer, engines: str | Path) -> None:
        """Start nothing yet; `request_switch` and `status` may be called from anywhere.

        Args:
            server: The first one.
            engines: Where engines are found at a switch; a link may point elsewhere by then.
        """
        self._engines = Path(engines)
        self._server = server
        self._board = StatusBoard()
        self._board.report(_SERVER, "tritonserver is starting")
        self._supervisor: Supervisor | None = None
        self._is_wanted = False
        self._are_engines_away = False
        self._loading: _Loading | None = None
        self._draining: _Draining | None = None

    @property
    def server(self) -> TritonServer:
        """The server that gets new connections."""
        return self._server

    def status(self) -> ServiceStatus:
        """Return how the service is; may be called from any thread."""
        return self._board.status()

    def start(self) -> None:
        """Start the first server, to be kept running with all its processes."""
        self._server.start()
        self._supervisor = Supervisor(self._server, self._board)
        self._board.clear(_SERVER)

    def request_switch(self) -> None:
        """Have the engines of the directory served that it has then; a signal handler may call."""
        self._is_wanted = True

    def run(self) -> None:
        """Watch and switch until a KeyboardInterrupt."""
        while True:
            assert self._supervisor is not None, "run after start"
            self._supervisor.run(goes_on=self._goes_on)

    def stop(self) -> None:
        """End all servers; may be repeated."""
        steps = [step for step in (self._loading, self._draining) if step is not None]
        try:
            for step in steps:
                step.hurry()
            self._server.stop()
            for step in steps:
                step.thread.join(_JOIN_SECONDS)
        finally:  # also at a second Ctrl-C, and a third must not leave one of them
            with signals_deferred():
                for server in (self._server, *(step.server for step in steps)):
                    server.kill()

    def _goes_on(self) -> bool:
        """Do what is due; tell whether it is still the same server that is to be watched."""
        self._look_at_engines()
        if self._draining is not None and not self._draining.thread.is_alive():
            self._end_drain()
        if self._loading is not None and not self._loading.thread.is_alive():
            return not self._take_over()
        if self._is_wanted and self._loading is None and self._draining is None:
            self._is_wanted = False
            self._begin()
        return True

    def _look_at_engines(self) -> None:
        try:
            self._server.check_engines()
        except GroundserveError as error:
            if not self._are_engines_away:
                log_event("engines_changed", level=logging.WARNING, reason=str(error))
            self._are_engines_away = True
            # Ready as long as everything that was loaded lives.
            self._board.report(_ENGINES, str(error), blocks=False)
        else:
            self._are_engines_away = False
            self._board.clear(_ENGINES)

    def _begin(self) -> None:
        engine_dir = self._engines.resolve()
        try:
            engine_id = Manifest.load(engine_dir).engine_id
            # Both: the same directory rebuilt is another engine, and a copy elsewhere another place
            # to load from.
            if (engine_dir, engine_id) == (self._server.engine_dir, self._server.engine_id):
                log_event("switch_not_needed", engine=engine_id)
                self._board.clear(_SWITCH)
                return
            log_event("switch_started", engine=engine_id, engine_dir=str(engine_dir))
            with signals_deferred():  # what is started is known to `stop`
                self._loading = _Loading(self._server, engine_dir)
        except (GroundserveError, OSError) as error:
            self._fail(error)

    def _take_over(self) -> bool:
        assert self._loading is not None, "it has ended"
        loading = self._loading  # until it is settled whose the new server is: `stop` ends it
        new, old = loading.server, self._server
        try:
            if loading.error is not None:
                raise loading.error
            _check_lives(new)
            places = _places(new)
            for place in places:
                # From here on the new server gets what connects.
                place.to(new.pid or 0)
        except (GroundserveError, OSError) as error:
            new.kill()
            self._loading = None
            self._fail(error)
            return False
        board = StatusBoard(self.status().counters)  # what was wrong was wrong with the old
        with signals_deferred():
            self._server, self._loading, self._board = new, None, board
            self._draining = _Draining(old, places, board)
        self._board.count("switches")
        self._board.report(_OLD_SERVER, "the server before finishes its requests", blocks=False)
        self._supervisor = Supervisor(new, self._board)
        seconds = round(time.monotonic() - loading.started, 3)
        log_event("switched", engine=new.engine_id, pid=new.pid, seconds=seconds)
        return True

    def _end_drain(self) -> None:
        assert self._draining is not None, "it has ended"
        self._server.forget_predecessor()
        self._board.clear(_OLD_SERVER)
        seconds = round(time.monotonic() - self._draining.started, 3)
        num_cut = self._draining.num_cut
        log_event("old_server_ended", seconds=seconds, connections_cut=num_cut)
        self._draining = None

    def _fail(self, error: Exception) -> None:
        log_event("switch_failed", level=logging.ERROR, reason=str(error))
        self._board.count("failed_switches")
        # What may follow in more lines is the end of Triton's log, which tells of requests.
        problem = f"the last switch of engines failed: {error}".partition("\n")[0]
        self._board.report(_SWITCH, problem, blocks=False)


class _Loading:
    """A second server that starts beside the first, in a thread of its own."""

    def __init__(self, old: TritonServer, engine_dir: Path) -> None:
        self.started = time.monotonic()
        self.server = old.successor(engine_dir)
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, args=(old,), daemon=True)
        self.thread.start()

    def hurry(self) -> None:
        self.server.cancel()

    def _run(self, old: TritonServer) -> None:
        try:
            for place in _places(old):
                # Before the second server listens: the kernel would spread connections over both.
                place.keep()
            self.server.start()
        except (GroundserveError, OSError) as error:
            self.error = error


class _Draining:
    """The first server on its way out, in a thread of its own."""

    def __init__(self, old: TritonServer, places: list[Steering], board: StatusBoard) -> None:
        self.started = time.monotonic()
        self.server = old
        self.num_cut = 0
        self._stalls = StallWatch(old, board)
        self._is_hurried = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(places,), daemon=True)
        self.thread.start()

    def hurry(self) -> None:
        self._is_hurried.set()

    def _run(self, places: list[Steering]) -> None:
        # gRPC spreads the age by a tenth; whoever asked at the end of it has this long.
        most = 1.1 * MAX_CONNECTION_AGE_SECONDS + Limits.from_environment().max_request_seconds
        with self._stalls.running():  # a client that hangs at a stopped server cannot move over
            while (
                (open_now := self.server.connections())
                and time.monotonic() < self.started + most
                and not self._is_hurried.wait(_POLL_SECONDS)
            ):
                pass
        self.num_cut = len(open_now)
        with ExitStack() as stack:
            try:
                for place in places:
                    stack.enter_context(place.while_closing())
            except UnavailableError as error:  # connections may then meet a socket that closes
                log_event("steering_failed", level=logging.WARNING, reason=str(error))
            self.server.stop()


def _places(server: TritonServer) -> list[Steering]:
    if server.pid is None:
        return []
    return [place for port in server.public_ports for place in Steering.of(server.pid, port)]


def _check_lives(server: TritonServer) -> None:
    if not server.is_running():
        raise UnavailableError("the new server ended as soon as it was ready")
    # Counters subtract to what is missing alone, never below 0.
    if lost := Counter(server.num_stubs) - Counter(stub.model for stub in server.stubs()):
        raise UnavailableError(f"the new server lost processes of {', '.join(sorted(lost))}")
