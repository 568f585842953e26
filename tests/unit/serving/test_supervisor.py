from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from groundserve.errors import EngineMismatchError, UnavailableError
from groundserve.runtime.backoff import MAX_DELAY_SECONDS
from groundserve.serving import supervisor as module
from groundserve.serving.processes import Stub
from groundserve.serving.supervisor import (
    LOOK_SECONDS,
    MAX_UNANSWERED,
    MAX_UNANSWERED_BY_VLLM,
    Supervisor,
)


class FakeServer:
    """Two stubs of `decode` and one of `ground`; loads and starts as told."""

    def __init__(self) -> None:
        self.pid: int | None = 1
        self.num_stubs = {"decode": 2, "ground": 1}
        self.answers_later: set[str] = set()
        self.alive: set[Stub] = set()
        self.drains = False
        """Whether the old stubs of a model that is loaded again live on for a while."""
        self.answers = True
        """Whether pings are answered."""
        self.held, self.max_memory_bytes = 5, 10
        self.rebuilt = False
        self.failures = 0
        """How many of the next loads and starts fail."""
        self.error: Exception = UnavailableError("told to fail")
        self.running = True
        self.vllm: FakeVllm | None = None
        self.actions: list[str] = []
        self._next_pid = 10
        for model in ("decode", "decode", "ground"):
            self._spawn(model)

    def is_running(self) -> bool:
        return self.running

    def stubs(self) -> set[Stub]:
        return set(self.alive)

    def ping(self) -> bool:
        return self.answers

    def memory_bytes(self) -> int:
        return self.held

    def check_engines(self) -> None:
        if self.rebuilt:
            raise EngineMismatchError("rebuilt")

    def end_process(self) -> None:
        self.actions.append("end")
        self.running = False

    def reload_model(self, name: str) -> None:
        self._act(f"reload {name}")
        old = {stub for stub in self.alive if stub.model == name}
        for _ in range(2 if name == "decode" else 1):
            self._spawn(name)
        if not self.drains:
            self.alive -= old

    def stop(self, *, keep_vllm: bool) -> None:
        assert keep_vllm
        self.pid, self.running, self.alive = None, False, set()

    def restart(self) -> None:
        self.stop(keep_vllm=True)
        self._act("restart")
        self.pid, self.running, self.alive = 2, True, set()
        for model in ("decode", "decode", "ground"):
            self._spawn(model)

    def kill(self, model: str) -> None:
        self.alive.remove(max((s for s in self.alive if s.model == model), key=lambda s: s.pid))

    def _act(self, action: str) -> None:
        self.actions.append(action)
        if self.failures:
            self.failures -= 1
            raise self.error

    def _spawn(self, model: str) -> None:
        self._next_pid += 1
        self.alive.add(Stub(pid=self._next_pid, model=model, region=f"region_{self._next_pid}"))


class FakeVllm:
    """Loads as long as it is told to, once it is launched."""

    pid = None

    def __init__(self) -> None:
        self.running = self.ready = True
        self.actions: list[str] = []

    def is_running(self) -> bool:
        return self.running

    def is_ready(self) -> bool:
        return self.ready

    def reason(self) -> str:
        return "; its log says why"

    def end(self) -> None:
        self.actions.append("end")
        self.running = self.ready = False

    def launch(self) -> None:
        self.actions.append("launch")
        self.running = True


class Clock:
    """The time that a supervisor reads."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def supervisor(server, clock) -> Supervisor:
    return Supervisor(server)


@pytest.fixture
def events(caplog) -> Callable[[], list[str]]:
    """What was logged so far."""
    caplog.set_level(logging.INFO, "groundserve.serving.events")
    return lambda: [record.getMessage() for record in caplog.records]


def test_server_starts_again_where_the_requests_of_a_dead_stub_get_no_answer(server, supervisor):
    server.answers_later = {"ground"}
    server.kill("ground")
    supervisor.check()
    supervisor.check()
    assert server.actions == ["end", "restart"]


def test_stub_that_died_before_anybody_looked_is_missed(server, clock):
    server.kill("ground")  # its model was loaded, others were not yet
    Supervisor(server).check()
    assert server.actions == ["reload ground"]


def test_stubs_that_finish_their_requests_are_not_missed_when_they_end(server, supervisor):
    server.drains = True
    server.kill("decode")
    supervisor.check()
    draining = min(server.alive, key=lambda stub: stub.pid)
    server.alive.remove(draining)
    supervisor.check()
    assert server.actions == ["reload decode"]


def test_refused_restart_leaves_a_running_server_alone(server, supervisor, clock, monkeypatch):
    """Such as of an engine directory that was rebuilt: the other models still serve the old one."""

    def refuse() -> None:
        server.actions.append("refused")
        raise UnavailableError("rebuilt")

    monkeypatch.setattr(server, "restart", refuse)
    server.failures = 2
    server.kill("ground")
    supervisor.check()
    supervisor.check()
    assert server.actions == ["reload ground", "refused"]
    assert supervisor.board.problems == [
        "model ground could not be loaded again; it is started again in 0.5 s"
    ]
    clock.now += 0.5
    supervisor.check()
    assert server.actions[2:] == ["reload ground", "refused"]
    clock.now += 1.0
    supervisor.check()
    assert server.actions[4:] == ["reload ground"]
    assert supervisor.board.is_ready


@pytest.mark.parametrize(
    "error", [UnavailableError("taken"), EngineMismatchError("changed"), OSError(28, "full")]
)
def test_start_that_fails_is_tried_again_after_a_wait(server, supervisor, clock, error):
    server.running, server.failures, server.error = False, 1, error
    supervisor.check()
    assert not server.running
    supervisor.check()
    assert server.actions == ["restart"]
    clock.now += MAX_DELAY_SECONDS
    supervisor.check()
    assert server.actions == ["restart", "restart"]
    assert server.running


def test_server_that_dies_again_and_again_is_always_started_again(server, supervisor, clock):
    waits = []
    for _ in range(20):
        server.running, died_at = False, clock.now
        while not server.running:
            supervisor.check()
            clock.now += 0.25
        waits.append(clock.now - 0.25 - died_at)
    assert waits[:6] == [0.0, 0.5, 1.0, 2.0, 4.0, 5.0]
    assert set(waits[6:]) == {MAX_DELAY_SECONDS}
    assert supervisor.board.counters["servers_died"] == 20
    assert supervisor.board.counters["server_restarts"] == 20


def test_supervisor_short_of_descriptors_looks_again(server, supervisor, monkeypatch, caplog):
    looks = []

    def look() -> set[Stub]:
        looks.append(0)
        if len(looks) == 1:
            raise OSError(24, "Too many open files")
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "stubs", look)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None, raising=False)
    with pytest.raises(KeyboardInterrupt):
        supervisor.run()
    assert [record.getMessage() for record in caplog.records] == ["look_failed"]


def look_for(seconds: float, supervisor: Supervisor, clock: Clock) -> None:
    for _ in range(int(seconds / LOOK_SECONDS)):
        supervisor.check()
        clock.now += LOOK_SECONDS


def test_vllm_that_does_not_answer_is_killed_and_started_again(server, supervisor, clock, events):
    vllm = server.vllm = FakeVllm()
    vllm.ready = False
    look_for((MAX_UNANSWERED_BY_VLLM - 1) * LOOK_SECONDS, supervisor, clock)
    vllm.ready = True
    look_for(LOOK_SECONDS, supervisor, clock)
    vllm.ready = False
    look_for((MAX_UNANSWERED_BY_VLLM - 1) * LOOK_SECONDS, supervisor, clock)
    assert vllm.actions == []  # it was busy, twice
    look_for(2 * LOOK_SECONDS, supervisor, clock)
    assert vllm.actions == ["end", "end", "launch"]
    look_for(2 * MAX_UNANSWERED_BY_VLLM * LOOK_SECONDS, supervisor, clock)  # it loads
    assert vllm.actions == ["end", "end", "launch"]
    vllm.ready = True
    look_for(LOOK_SECONDS, supervisor, clock)
    assert events() == ["vllm_stalled", "vllm_ended", "vllm_restarted"]
    assert server.actions == []


def test_server_that_does_not_answer_is_killed_and_started_again(server, supervisor, clock, events):
    server.answers = False
    look_for((MAX_UNANSWERED - 1) * LOOK_SECONDS, supervisor, clock)
    server.answers = True
    look_for(LOOK_SECONDS, supervisor, clock)
    server.answers = False
    look_for((MAX_UNANSWERED - 1) * LOOK_SECONDS, supervisor, clock)
    assert server.actions == []  # it was busy, twice
    look_for(LOOK_SECONDS, supervisor, clock)
    assert server.actions == ["end", "restart"]
    assert events() == ["server_stalled", "server_died", "server_restarted"]
    assert supervisor.board.counters["servers_stalled"] == 1


def test_server_that_holds_too_much_memory_is_started_again(server, supervisor, clock, events):
    look_for(LOOK_SECONDS, supervisor, clock)
    server.held = server.max_memory_bytes + 1
    look_for(LOOK_SECONDS, supervisor, clock)
    server.held = 0
    look_for(2 * LOOK_SECONDS, supervisor, clock)
    assert server.actions == ["restart"]
    assert events() == ["server_memory_exceeded", "server_restarted"]
    assert supervisor.board.counters["memory_restarts"] == 1


def test_engines_that_changed_are_told_of_once_and_until_they_are_back(
    server, supervisor, clock, events
):
    server.rebuilt = True
    look_for(3 * LOOK_SECONDS, supervisor, clock)
    assert events() == ["engines_changed"]
    assert (supervisor.board.problems, supervisor.board.is_ready) == (["rebuilt"], True)
    server.rebuilt = False
    look_for(LOOK_SECONDS, supervisor, clock)
    assert supervisor.board.problems == []


def test_vllm_that_ended_loads_while_all_else_goes_on(server, supervisor, clock, events):
    vllm = server.vllm = FakeVllm()
    supervisor.check()
    assert vllm.actions == []
    vllm.running = vllm.ready = False
    supervisor.check()
    assert vllm.actions == ["end", "launch"]
    assert supervisor.board.problems == ["vLLM ended and is being started again"]
    assert not supervisor.board.is_ready
    server.kill("ground")
    supervisor.check()
    assert server.actions == ["reload ground"]
    assert not supervisor.board.is_ready
    vllm.ready = True
    supervisor.check()
    assert supervisor.board.is_ready
    assert supervisor.board.counters["vllm_restarts"] == 1
    assert [one for one in events() if "vllm" in one] == ["vllm_ended", "vllm_restarted"]
    assert vllm.actions == ["end", "launch"]


def test_vllm_that_does_not_come_to_load_is_started_anew(server, supervisor, clock):
    vllm = server.vllm = FakeVllm()
    vllm.running = vllm.ready = False
    supervisor.check()
    clock.now += 601
    supervisor.check()
    assert vllm.actions == ["end", "launch", "end"]
    clock.now += MAX_DELAY_SECONDS
    supervisor.check()
    assert vllm.actions[-1] == "launch"


def test_a_dead_server_does_not_take_vllm_along(server, supervisor):
    vllm = server.vllm = FakeVllm()
    server.running = False
    supervisor.check()
    assert server.actions == ["restart"]
    assert vllm.actions == []
