"""Keep a server serving: load again what lost a stub, start again what died, and never give up.

A dead stub is found by its process id. A request sent to find out would wait behind real work, and
readiness says nothing: Triton 2.51 neither restarts a stub nor reports one missing. What fails
again and again is started again with growing waits; `status` and the log say so meanwhile.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Set
from typing import Protocol

from groundserve.errors import GroundserveError
from groundserve.serving.backoff import Backoff
from groundserve.serving.events import log_event
from groundserve.serving.stall_watch import StallWatch, Watched
from groundserve.serving.status import ServiceStatus, StatusBoard
from groundserve.serving.stubs import Stub

SWAP_INTERVAL_SECONDS = 60.0
"""Between two swaps of a model: requests that no region is made for must not keep it loading."""

# Then the server itself is taken to be at fault, and started again.
_MAX_RELOADS = 2
_POLL_SECONDS = 0.25
_SERVER = "server"


class Supervised(Watched, Protocol):
    """What is asked of a server; `TritonServer` is one."""

    @property
    def pid(self) -> int | None:
        """Process id of the server."""

    @property
    def num_stubs(self) -> Mapping[str, int]:
        """How many stubs each model is to have."""

    @property
    def answers_later(self) -> Set[str]:
        """Models whose processes take requests up and answer them later."""

    def is_running(self) -> bool:
        """Tell whether the server process lives."""

    def stubs(self) -> set[Stub]:
        """Return the stubs that live."""

    def reload_model(self, name: str) -> None:
        """Load a model anew, or raise GroundserveError."""

    def crowding_models(self, stubs: Set[Stub]) -> set[str]:
        """Return the models to swap, for these stubs of them hold others' room in /dev/shm."""

    def swap_model(self, name: str) -> None:
        """Replace a model by a new one, without a gap, or raise UnavailableError."""

    def stop(self) -> None:
        """Remove what is left of it."""

    def restart(self) -> None:
        """Stop it and start again, or raise GroundserveError."""


class Supervisor:
    """Watches one running server."""

    def __init__(self, server: Supervised, board: StatusBoard | None = None) -> None:
        """Look at what lives; a stub that died while others were being loaded is missing already.

        Args:
            server: What to watch.
            board: Where to write; one of its own where None.
        """
        self.board = board or StatusBoard()
        """Where what is wrong is written; others who keep the service may write there, too."""
        self._server = server
        self._stalls = StallWatch(server, self.board)
        self._seen = server.stubs()
        self._num_needed = Counter(server.num_stubs)
        self._replaced: set[Stub] = set()
        """Stubs of models that were loaded again since; they end when their requests are done."""
        self._backoffs = {name: Backoff() for name in (_SERVER, *map(_model, self._num_needed))}
        self._swapped_at: dict[str, float] = {}

    def status(self) -> ServiceStatus:
        """Return how the service is; may be called from any thread."""
        return self.board.status()

    def run(self, *, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Watch until a KeyboardInterrupt.

        Args:
            goes_on: Called after each look; watching ends where it says no.
        """
        with self._stalls.running():
            is_over = False
            while not is_over:
                try:
                    self.check()
                    is_over = not goes_on()
                except OSError as error:  # such as no descriptor left for reading /proc
                    log_event("look_failed", level=logging.ERROR, reason=str(error))
                time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Look once, and bring back what is gone unless a wait is not over."""
        if not self._server.is_running():
            self._revive_server()
            return
        stubs = self._server.stubs()
        # Gone since the last look, and not because another took its place.
        for stub in self._seen - self._replaced - stubs:
            log_event("stub_died", level=logging.WARNING, model=stub.model, pid=stub.pid)
            self.board.count("stubs_died")
        self._seen = stubs
        # Those that have ended meanwhile are forgotten.
        self._replaced &= stubs
        num_lost = self._num_needed - Counter(stub.model for stub in stubs - self._replaced)
        pid = self._server.pid
        for model in num_lost:
            if self._server.pid != pid:
                break  # the server was restarted, and all came back with it
            if self._is_due(_model(model), f"model {model} lost a process"):
                self._reload(model)
        # First everything that is needed lives.
        if not num_lost:
            for model in self._server.crowding_models(stubs - self._replaced):
                self._swap(model)

    def _is_due(self, subject: str, problem: str) -> bool:
        """Tell whether something that failed may be started; the first look at it plans that."""
        planned = self._backoffs[subject].due
        due = self._plan(subject, problem) if planned is None else planned
        return time.monotonic() >= due

    def _plan(self, subject: str, problem: str) -> float:
        now = time.monotonic()
        due = self._backoffs[subject].fail(now)
        if due > now:
            seconds = round(due - now, 3)
            log_event("backing_off", level=logging.WARNING, subject=subject, seconds=seconds)
            self.board.report(subject, f"{problem}; it is started again in {seconds:g} s")
        return due

    def _succeed(self, subject: str) -> None:
        self._backoffs[subject].succeed(time.monotonic())
        self.board.clear(subject)

    def _swap(self, model: str) -> None:
        """Give back the shared memory of a model's stubs, which never shrinks by itself."""
        started = time.monotonic()
        if started - self._swapped_at.get(model, -math.inf) < SWAP_INTERVAL_SECONDS:
            return
        # Set before the attempt: one that fails waits as long as one that succeeds.
        self._swapped_at[model] = started
        old = {stub for stub in self._server.stubs() if stub.model == model}
        try:
            self._server.swap_model(model)
        except (GroundserveError, OSError) as error:
            log_event("swap_failed", level=logging.WARNING, model=model, reason=str(error))
        else:
            self._replaced |= old
            seconds = round(time.monotonic() - started, 3)
            log_event("model_swapped", model=model, reason="shared memory", seconds=seconds)
            self.board.count("model_swaps")

    def _reload(self, model: str) -> None:
        started = time.monotonic()
        self.board.report(_model(model), f"model {model} lost a process and is loaded again")
        # Triton tells nobody of the requests that a dead process had taken up: only the end of
        # their connections does.
        is_loaded_again = model not in self._server.answers_later
        for _ in range(_MAX_RELOADS if is_loaded_again else 0):
            self._replaced |= {stub for stub in self._server.stubs() if stub.model == model}
            try:
                self._server.reload_model(model)
            except (GroundserveError, OSError) as error:
                if not self._server.is_running():
                    return  # the next look starts it again
                self.board.count("failed_model_reloads")
                log_event("reload_failed", level=logging.ERROR, model=model, reason=str(error))
            else:
                seconds = round(time.monotonic() - started, 3)
                log_event("model_reloaded", model=model, seconds=seconds)
                self.board.count("model_reloads")
                self._succeed(_model(model))
                return
        self._restart(
            f"model {model} could not be loaded again, {_MAX_RELOADS} times in a row"
            if is_loaded_again
            else f"model {model} lost a process"
        )
        if self._server.is_running() and self._backoffs[_model(model)].due is not None:
            self._plan(_model(model), f"model {model} could not be loaded again")

    def _revive_server(self) -> None:
        if self._backoffs[_SERVER].due is None:
            log_event("server_died", level=logging.ERROR, pid=self._server.pid)
            self.board.count("servers_died")
            self._server.stop()  # now, not after a wait: its stubs may live on and hold memory
        if self._is_due(_SERVER, "tritonserver ended"):
            self._restart("it ended")

    def _restart(self, reason: str) -> None:
        started = time.monotonic()
        self.board.report(_SERVER, f"tritonserver is being restarted: {reason}")
        try:
            self._server.restart()
        except (GroundserveError, OSError) as error:  # a later look tries again
            self.board.count("failed_server_restarts")
            log_event("restart_failed", level=logging.ERROR, reason=str(error))
            if self._server.is_running():  # it was left alone, and goes on with what it has
                self.board.clear(_SERVER)
            else:
                self._plan(_SERVER, "tritonserver could not be started")
            return
        self._seen = self._server.stubs()
        seconds = round(time.monotonic() - started, 3)
        log_event("server_restarted", pid=self._server.pid, seconds=seconds)
        self.board.count("server_restarts")
        for subject in self._backoffs:  # the models came back with it
            self._succeed(subject)


def _model(name: str) -> str:
    return f"model {name}"
