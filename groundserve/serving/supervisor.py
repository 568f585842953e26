"""Keep a server serving: load again what lost a stub, start again what died.

A dead stub is found by its process id. A request sent to find out would wait behind real work, and
readiness says nothing: Triton 2.51 neither restarts a stub nor reports one missing.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Protocol

from groundserve.errors import UnavailableError
from groundserve.serving.events import log_event
from groundserve.serving.stubs import Stub

MAX_RESTARTS = 5
"""Times a server is started again within `RESTART_WINDOW_SECONDS`."""

RESTART_WINDOW_SECONDS = 600.0
"""Earlier restarts do not count."""

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
        self._seen = stubs
        self._replaced &= stubs
        num_lost = self._num_needed - Counter(stub.model for stub in stubs - self._replaced)
        for model in num_lost:
            self._reload(model)

    def _reload(self, model: str) -> None:
        started = time.monotonic()
        for _ in range(_MAX_RELOADS):
            self._replaced |= {stub for stub in self._server.stubs() if stub.model == model}
            try:
                self._server.reload_model(model)
            except UnavailableError as error:
                if not self._server.is_running():
                    return  # the next look starts it again
                log_event("reload_failed", level=logging.ERROR, model=model, reason=str(error))
            else:
                seconds = round(time.monotonic() - started, 3)
                log_event("model_reloaded", model=model, seconds=seconds)
                return
        raise UnavailableError(
            f"the model {model} lost a process and could not be loaded again, {_MAX_RELOADS} times "
            "in a row; the server's log says why"
        )

    def _restart(self) -> None:
        log_event("server_died", level=logging.ERROR, pid=self._server.pid)
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
            log_event("restart_failed", level=logging.ERROR, reason=str(error))
        else:
            self._seen = self._server.stubs()
            seconds = round(time.monotonic() - started, 3)
            log_event("server_restarted", pid=self._server.pid, seconds=seconds)
