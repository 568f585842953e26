"""Keep a server serving: load again what lost a stub, start again what died, and never give up.

A dead stub is found by its process: a request sent to find out would wait behind real work, and
Triton 2.51 neither restarts a stub nor reports one missing. The kernel tells of a death at once
(pidfd); whether the server answers and what memory it holds is looked at every few seconds. What
fails again and again is started again with growing waits; `status` and the log say so meanwhile.
"""

from __future__ import annotations

import logging
import os
import select
import time
import weakref
from collections import Counter
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from groundserve.errors import GroundserveError
from groundserve.limits import MIB
from groundserve.runtime.backoff import Backoff
from groundserve.serving.events import log_event
from groundserve.serving.processes import Stub
from groundserve.serving.status import StatusBoard

if TYPE_CHECKING:
    from groundserve.serving.server import TritonServer
    from python_backend.generate.vllm_process import VllmEngine

LOOK_SECONDS = 5.0
"""Between two looks at what the kernel does not tell of."""

_VLLM_LOOK_SECONDS = 0.5  # while it loads
_VLLM_LOAD_SECONDS = 600.0

MAX_UNANSWERED = 6
"""Looks in a row at which the server has not answered before it is killed."""
MAX_UNANSWERED_BY_VLLM = 24
"""The same for vLLM, which answers between two passes: on a CPU a large decoder takes long."""

_SERVER, _ENGINES, _VLLM = "server", "engines", "vllm"  # no model has these names


class Supervisor:
    """Watches one running server."""

    def __init__(self, server: TritonServer, board: StatusBoard | None = None) -> None:
        """Look at what lives; a stub that died while others were loaded is missing already."""
        self.board = board or StatusBoard()
        self._server = server
        self._seen = server.stubs()
        self._num_needed = Counter(server.num_stubs)
        self._replaced: set[Stub] = set()
        """Stubs of models that were loaded again since; they end when their requests are done."""
        self._backoffs = {name: Backoff() for name in (_SERVER, _VLLM, *self._num_needed)}
        self._vllm_give_up_at: float | None = None
        """Until when vLLM may take to load; None while it is not being started."""
        self._num_unanswered = 0
        self._num_unanswered_by_vllm = 0
        self._look_at = 0.0
        self._is_ended = False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self._wake_fd)

    def run(self) -> None:
        """Watch until a KeyboardInterrupt, or until `end`."""
        while not self._is_ended:
            try:
                self.check()
                self._wait()
            except OSError as error:  # such as no descriptor left for reading /proc
                log_event("look_failed", level=logging.ERROR, reason=str(error))
                time.sleep(1.0)

    def end(self) -> None:
        """Have `run` return; any thread may call."""
        self._is_ended = True
        os.eventfd_write(self._wake_fd, 1)

    def check(self) -> None:
        """Look once, and bring back what is gone unless a wait is not over."""
        if self._server.vllm is not None:
            self._check_vllm(self._server.vllm)
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
        pid = self._server.pid
        for model in self._num_needed - Counter(stub.model for stub in stubs - self._replaced):
            if self._server.pid != pid:
                return  # the server was restarted, and all came back with it
            if self._is_due(model, f"model {model} lost a process"):
                self._reload(model)
        if self._server.is_running() and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            self._look()

    def _wait(self) -> None:
        """Wait until a process ends, or something is due."""
        dues = [one.due for one in self._backoffs.values() if one.due is not None]
        pids: list[int | None] = []
        if self._server.is_running():
            dues.append(self._look_at)
            pids = [self._server.pid, *(stub.pid for stub in self._seen)]
        if self._server.vllm is not None and self._server.vllm.is_running():
            pids.append(self._server.vllm.pid)
        if self._vllm_give_up_at is not None:
            dues.append(time.monotonic() + _VLLM_LOOK_SECONDS)
        seconds = max(0.0, min(dues, default=0.0) - time.monotonic())
        ends = select.poll()
        ends.register(self._wake_fd, select.POLLIN)
        with ExitStack() as stack:
            for pid in pids:
                # What has ended is missed at the next look, and so are all on an old kernel.
                with suppress(OSError):
                    fd = os.pidfd_open(pid or 0)
                    stack.callback(os.close, fd)
                    ends.register(fd, select.POLLIN)
            ends.poll(seconds * 1000)

    def _look(self) -> None:
        try:
            self._server.check_engines()
            self.board.clear(_ENGINES)
        except GroundserveError as error:
            if str(error) not in self.board.problems:
                log_event("engines_changed", level=logging.WARNING, reason=str(error))
            # Ready as long as everything that was loaded lives.
            self.board.report(_ENGINES, str(error), blocks=False)
        if self._server.vllm is not None and self._vllm_give_up_at is None:
            self._look_at_vllm(self._server.vllm)
        held, most = self._server.memory_bytes(), self._server.max_memory_bytes
        self._num_unanswered = 0 if self._server.ping() else self._num_unanswered + 1
        if self._num_unanswered >= MAX_UNANSWERED:
            self._num_unanswered = 0
            log_event("server_stalled", level=logging.ERROR, pid=self._server.pid)
            self.board.count("servers_stalled")
            self._server.end_process()
            self._revive_server()
        elif held > most:
            log_event("server_memory_exceeded", level=logging.ERROR, mib=held // MIB)
            self.board.count("memory_restarts")
            self._restart(f"it held {held // MIB} MiB of memory, and may hold {most // MIB}")

    def _look_at_vllm(self, vllm: VllmEngine) -> None:
        """End vLLM where it lives and does not answer; the next look finds that it has ended."""
        is_silent = vllm.is_running() and not vllm.is_ready()
        self._num_unanswered_by_vllm = self._num_unanswered_by_vllm + 1 if is_silent else 0
        if self._num_unanswered_by_vllm >= MAX_UNANSWERED_BY_VLLM:
            self._num_unanswered_by_vllm = 0
            log_event("vllm_stalled", level=logging.ERROR, pid=vllm.pid)
            vllm.end()

    def _is_due(self, subject: str, problem: str) -> bool:
        """Tell whether something that failed may be started; the first look at it plans that."""
        if self._backoffs[subject].due is None:
            self._plan(subject, problem)
        return time.monotonic() >= (self._backoffs[subject].due or 0.0)

    def _plan(self, subject: str, problem: str) -> None:
        now = time.monotonic()
        seconds = round(self._backoffs[subject].fail(now) - now, 3)
        if seconds > 0:
            log_event("backing_off", level=logging.WARNING, subject=subject, seconds=seconds)
            self.board.report(subject, f"{problem}; it is started again in {seconds:g} s")

    def _succeed(self, subject: str) -> None:
        self._backoffs[subject].succeed(time.monotonic())
        self.board.clear(subject)

    def _reload(self, model: str) -> None:
        started = time.monotonic()
        self.board.report(model, f"model {model} lost a process and is loaded again")
        # Triton tells nobody of the requests that a dead process had taken up: only the end of
        # their connections does.
        if model in self._server.answers_later:
            with suppress(GroundserveError):  # or it is left alone, and goes on with what it has
                self._server.check_engines()
                # Not asked to end: it would wait for requests that nobody answers any more.
                self._server.end_process()
            self._restart(f"model {model} lost a process", model)
            return
        self._replaced |= {stub for stub in self._server.stubs() if stub.model == model}
        try:
            self._server.reload_model(model)
        except (GroundserveError, OSError) as error:
            if self._server.is_running():  # else the next look starts it again
                self.board.count("failed_model_reloads")
                log_event("reload_failed", level=logging.ERROR, model=model, reason=str(error))
                self._restart(f"model {model} could not be loaded again", model)
            return
        self._seen = self._server.stubs()
        seconds = round(time.monotonic() - started, 3)
        log_event("model_reloaded", model=model, seconds=seconds)
        self.board.count("model_reloads")
        self._succeed(model)

    def _check_vllm(self, vllm: VllmEngine) -> None:
        """Start vLLM again when it has ended, with whatever status, and see whether it has loaded.

        Without a wait for that: requests end with an error meanwhile, and all else goes on.
        """
        is_late = self._vllm_give_up_at is not None and time.monotonic() > self._vllm_give_up_at
        if vllm.is_running() and not is_late:
            if self._vllm_give_up_at is not None and vllm.is_ready():
                self._vllm_give_up_at = None
                log_event("vllm_restarted", pid=vllm.pid)
                self._succeed(_VLLM)
            return
        if self._backoffs[_VLLM].due is None:
            reason = vllm.reason().removeprefix("; ")
            log_event("vllm_ended", level=logging.ERROR, pid=vllm.pid, reason=reason)
            self._vllm_give_up_at = None
            vllm.end()  # now, not after a wait: others of its processes may hold memory
        if self._is_due(_VLLM, "vLLM ended"):
            self.board.count("vllm_restarts")
            self.board.report(_VLLM, "vLLM ended and is being started again")
            vllm.launch()
            self._vllm_give_up_at = time.monotonic() + _VLLM_LOAD_SECONDS
            self._backoffs[_VLLM].due = None

    def _revive_server(self) -> None:
        if self._backoffs[_SERVER].due is None:
            log_event("server_died", level=logging.ERROR, pid=self._server.pid)
            self.board.count("servers_died")
            # Now, not after a wait: its stubs may live on and hold memory.
            self._server.stop(keep_vllm=True)
        if self._is_due(_SERVER, "tritonserver ended"):
            self._restart("it ended")

    def _restart(self, reason: str, model: str | None = None) -> None:
        """Start the server again; `model` is the one that it is done for."""
        started = time.monotonic()
        self.board.report(_SERVER, f"tritonserver is being restarted: {reason}")
        try:
            self._server.restart()
        except (GroundserveError, OSError) as error:  # a later look tries again
            self.board.count("failed_server_restarts")
            log_event("restart_failed", level=logging.ERROR, reason=str(error))
            if not self._server.is_running():
                self._plan(_SERVER, "tritonserver could not be started")
                return
            self.board.clear(_SERVER)  # it was left alone, and goes on with what it has
            if model is not None:
                self._plan(model, f"model {model} could not be loaded again")
            return
        self._seen, self._num_unanswered = self._server.stubs(), 0
        seconds = round(time.monotonic() - started, 3)
        log_event("server_restarted", pid=self._server.pid, seconds=seconds)
        self.board.count("server_restarts")
        for subject in (_SERVER, *self._num_needed):  # the models came back with it
            self._succeed(subject)
