"""Keep a server serving: load again what lost a stub, start again what died.

A dead stub is found by its process id. A request sent to find out would wait behind real work, and
readiness says nothing: Triton 2.51 neither restarts a stub nor reports one missing.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Set
from typing import Protocol

from groundserve.errors import UnavailableError
from groundserve.serving.events import log_event
from groundserve.serving.status import ServiceStatus, StatusBoard
from groundserve.serving.stubs import Stub

MAX_RESTARTS = 5
"""Times a server is started again within `RESTART_WINDOW_SECONDS`."""

RESTART_WINDOW_SECONDS = 600.0
"""Earlier restarts do not count."""

SWAP_INTERVAL_SECONDS = 60.0
"""Between two swaps of a model: requests that no region is made for must not keep it loading."""

_MAX_RELOADS = 2
_POLL_SECONDS = 0.25


class Supervised(Protocol):
    """What is asked of a server; `TritonServer` is one."""

    @property
    def pid(self) -> int | None:
        """Process id of the server."""

    def is_running(self) -> bool:
        """Tell whether the server process lives."""

    def stubs(self) -> set[Stub]:
        """Return the stubs that live."""

    def reload_model(self, name: str) -> None:
        """Load a model anew, or raise UnavailableError."""

    def crowding_models(self, stubs: Set[Stub]) -> set[str]:
        """Return the models to swap, for these stubs of them hold others' room in /dev/shm."""

    def swap_model(self, name: str) -> None:
        """Replace a model by a new one, without a gap, or raise UnavailableError."""

    def restart(self) -> None:
        """Remove what is left and start again, or raise UnavailableError."""


class Supervisor:
    """Watches one running server."""

    def __init__(self, server: Supervised) -> None:
        """Take the stubs that live now as what each model needs."""
        self._server = server
        self._seen = server.stubs()
        self._num_needed = Counter(stub.model for stub in self._seen)
        self._replaced: set[Stub] = set()
        """Stubs of models that were loaded again since; they end when their requests are done."""
        self._restarts: list[float] = []
        self._swapped_at: dict[str, float] = {}
        self.board = StatusBoard()
        """Where what is wrong is written; others who keep the service may write there, too."""

    def status(self) -> ServiceStatus:
        """Return how the service is; may be called from any thread."""
        return self.board.status()

    def run(self) -> None:
        """Watch until a KeyboardInterrupt.

        Raises:
            UnavailableError: The server or a model cannot be brought back; the server should end.
        """
        while True:
            self.check()
            time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Look once, and bring back what is gone.

        Raises:
            UnavailableError: As `run`.
        """
        if not self._server.is_running():
            self._restart()
            return
        stubs = self._server.stubs()
        for stub in self._seen - self._replaced - stubs:
            log_event("stub_died", level=logging.WARNING, model=stub.model, pid=stub.pid)
            self.board.count("stubs_died")
        self._seen = stubs
        self._replaced &= stubs
        num_lost = self._num_needed - Counter(stub.model for stub in stubs - self._replaced)
        for model in num_lost:
            self._reload(model)
        if not num_lost:
            for model in self._server.crowding_models(stubs - self._replaced):
                self._swap(model)

    def _swap(self, model: str) -> None:
        """Give back the shared memory of a model's stubs, which never shrinks by itself."""
        started = time.monotonic()
        if started - self._swapped_at.get(model, -math.inf) < SWAP_INTERVAL_SECONDS:
            return
        self._swapped_at[model] = started
        old = {stub for stub in self._server.stubs() if stub.model == model}
        try:
            self._server.swap_model(model)
        except UnavailableError as error:
            log_event("swap_failed", level=logging.WARNING, model=model, reason=str(error))
        else:
            self._replaced |= old
            seconds = round(time.monotonic() - started, 3)
            log_event("model_swapped", model=model, reason="shared memory", seconds=seconds)

    def _reload(self, model: str) -> None:
        started = time.monotonic()
        self.board.report(f"model {model}", f"model {model} lost a process and is loaded again")
        for _ in range(_MAX_RELOADS):
            self._replaced |= {stub for stub in self._server.stubs() if stub.model == model}
            try:
                self._server.reload_model(model)
            except UnavailableError as error:
                if not self._server.is_running():
                    return  # the next look starts it again
                self.board.count("failed_model_reloads")
                log_event("reload_failed", level=logging.ERROR, model=model, reason=str(error))
            else:
                seconds = round(time.monotonic() - started, 3)
                log_event("model_reloaded", model=model, seconds=seconds)
                self.board.count("model_reloads")
                self.board.clear(f"model {model}")
                return
        raise UnavailableError(
            f"the model {model} lost a process and could not be loaded again, {_MAX_RELOADS} times "
            "in a row; the server's log says why"
        )

    def _restart(self) -> None:
        log_event("server_died", level=logging.ERROR, pid=self._server.pid)
        self.board.count("servers_died")
        self.board.report("server", "tritonserver ended and is started again")
        started = time.monotonic()
        self._restarts = [t for t in self._restarts if started - t < RESTART_WINDOW_SECONDS]
        if len(self._restarts) == MAX_RESTARTS:
            raise UnavailableError(
                f"tritonserver ended again after {MAX_RESTARTS} restarts within "
                f"{RESTART_WINDOW_SECONDS:.0f} s; its log says why"
            )
        self._restarts.append(started)
        try:
            self._server.restart()
        except UnavailableError as error:  # the next look tries again
            self.board.count("failed_server_restarts")
            log_event("restart_failed", level=logging.ERROR, reason=str(error))
        else:
            self._seen = self._server.stubs()
            seconds = round(time.monotonic() - started, 3)
            log_event("server_restarted", pid=self._server.pid, seconds=seconds)
            self.board.count("server_restarts")
            self.board.clear("server")
            for model in self._num_needed:
                self.board.clear(f"model {model}")
