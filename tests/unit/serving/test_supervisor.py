from __future__ import annotations

import json
import logging
from collections.abc import Callable, Set

import pytest

from groundserve.errors import UnavailableError
from groundserve.serving import supervisor as module
from groundserve.serving.events import JsonFormatter
from groundserve.serving.stubs import Stub
from groundserve.serving.supervisor import (
    MAX_RESTARTS,
    RESTART_WINDOW_SECONDS,
    SWAP_INTERVAL_SECONDS,
    Supervisor,
)


class FakeServer:
    """Two stubs of `decode` and one of `ground`; loads and starts as told."""

    def __init__(self) -> None:
        self.pid: int | None = 1
        self.alive: set[Stub] = set()
        self.drains = False
        """Whether the old stubs of a model that is loaded again live on for a while."""
        self.crowding: set[str] = set()
        """Models whose stubs hold others' room, until they are swapped."""
        self.failures = 0
        """How many of the next loads and starts fail."""
        self.running = True
        self.actions: list[str] = []
        self._next_pid = 10
        for model in ("decode", "decode", "ground"):
            self._spawn(model)

    def is_running(self) -> bool:
        return self.running

    def stubs(self) -> set[Stub]:
        return set(self.alive)

    def reload_model(self, name: str) -> None:
        self._act(f"reload {name}")
        old = {stub for stub in self.alive if stub.model == name}
        for _ in range(2 if name == "decode" else 1):
            self._spawn(name)
        if not self.drains:
            self.alive -= old

    def crowding_models(self, stubs: Set[Stub]) -> set[str]:
        return self.crowding & {stub.model for stub in stubs}

    def swap_model(self, name: str) -> None:
        self._act(f"swap {name}")
        old = {stub for stub in self.alive if stub.model == name}
        for _ in old:
            self._spawn(name)
        if not self.drains:
            self.alive -= old

    def restart(self) -> None:
        self.pid = None
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
            raise UnavailableError("told to fail")

    def _spawn(self, model: str) -> None:
        self._next_pid += 1
        self.alive.add(Stub(pid=self._next_pid, model=model, region=f"region_{self._next_pid}"))


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def supervisor(server) -> Supervisor:
    return Supervisor(server)


@pytest.fixture
def events(caplog) -> Callable[[], list[str]]:
    """What was logged so far."""
    caplog.set_level(logging.INFO, "groundserve.serving.events")
    return lambda: [record.getMessage() for record in caplog.records]


def test_nothing_is_done_while_all_live(server, supervisor):
    supervisor.check()
    assert server.actions == []


def test_model_that_lost_a_stub_is_loaded_once(server, supervisor):
    server.kill("decode")
    supervisor.check()
    supervisor.check()
    assert server.actions == ["reload decode"]


def test_stubs_that_finish_their_requests_are_not_missed_when_they_end(server, supervisor):
    server.drains = True
    server.kill("decode")
    supervisor.check()
    draining = min(server.alive, key=lambda stub: stub.pid)
    server.alive.remove(draining)
    supervisor.check()
    assert server.actions == ["reload decode"]


def test_stubs_that_finish_their_requests_do_not_hide_a_new_death(server, supervisor):
    server.drains = True
    server.kill("decode")
    supervisor.check()
    server.kill("decode")
    supervisor.check()
    assert server.actions == ["reload decode", "reload decode"]


def test_two_models_are_both_loaded(server, supervisor):
    server.kill("decode")
    server.kill("ground")
    supervisor.check()
    assert sorted(server.actions) == ["reload decode", "reload ground"]


def test_load_that_fails_once_is_repeated(server, supervisor):
    server.failures = 1
    server.kill("ground")
    supervisor.check()
    assert server.actions == ["reload ground", "reload ground"]


def test_load_that_fails_twice_ends_the_service(server, supervisor):
    server.failures = 2
    server.kill("ground")
    with pytest.raises(UnavailableError, match="the model ground lost a process and could not"):
        supervisor.check()


def test_server_that_dies_amid_a_load_is_restarted(server, supervisor, monkeypatch):
    def die(name: str) -> None:
        server.running = False
        raise UnavailableError("connection lost")

    server.kill("ground")
    monkeypatch.setattr(server, "reload_model", die)
    supervisor.check()
    supervisor.check()
    assert server.actions == ["restart"]


def test_dead_server_is_restarted_and_watched_again(server, supervisor):
    server.running = False
    supervisor.check()
    server.kill("ground")
    supervisor.check()
    assert server.actions == ["restart", "reload ground"]


def test_start_that_fails_is_tried_again_at_the_next_look(server, supervisor):
    server.running, server.failures = False, 1
    supervisor.check()
    assert not server.running
    supervisor.check()
    assert server.actions == ["restart", "restart"]
    assert server.running


def test_server_that_dies_too_often_ends_the_service(server, supervisor):
    for _ in range(MAX_RESTARTS):
        server.running = False
        supervisor.check()
    server.running = False
    with pytest.raises(UnavailableError, match="ended again after 5 restarts within 600 s"):
        supervisor.check()
    assert len(server.actions) == MAX_RESTARTS


def test_old_restarts_do_not_count(server, supervisor, monkeypatch):
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    for _ in range(MAX_RESTARTS + 1):
        server.running = False
        supervisor.check()
        now += RESTART_WINDOW_SECONDS / MAX_RESTARTS
    assert len(server.actions) == MAX_RESTARTS + 1


def test_events_are_lines_of_json(server, supervisor, caplog):
    caplog.set_level(logging.INFO, "groundserve.serving.events")
    dead = max((s for s in server.alive if s.model == "ground"), key=lambda s: s.pid)
    server.kill("ground")
    supervisor.check()
    died, reloaded = (json.loads(JsonFormatter().format(record)) for record in caplog.records)
    assert died["event"] == "stub_died"
    assert (died["model"], died["pid"], died["level"]) == ("ground", dead.pid, "warning")
    assert reloaded["event"] == "model_reloaded"
    assert reloaded["seconds"] >= 0


def test_model_that_holds_others_room_is_swapped(server, supervisor, events):
    server.crowding, server.drains = {"decode"}, True
    supervisor.check()
    server.crowding = set()
    supervisor.check()
    assert server.actions == ["swap decode"]
    assert events() == ["model_swapped"]


def test_stubs_that_were_swapped_may_end(server, supervisor, events):
    server.crowding = {"decode"}
    supervisor.check()
    server.crowding = set()
    supervisor.check()
    assert "stub_died" not in events()
    assert server.actions == ["swap decode"]


def test_model_that_outgrows_its_room_again_is_not_swapped_for_ever(
    server, supervisor, monkeypatch
):
    server.crowding = {"ground"}
    for seconds in (0.0, 1.0, SWAP_INTERVAL_SECONDS - 1, SWAP_INTERVAL_SECONDS):
        monkeypatch.setattr(module.time, "monotonic", lambda seconds=seconds: 1000.0 + seconds)
        supervisor.check()
    assert server.actions == ["swap ground", "swap ground"]


def test_swap_that_fails_leaves_the_model_as_it_is(server, supervisor, events):
    server.crowding, server.failures = {"ground"}, 1
    supervisor.check()
    supervisor.check()
    assert server.actions == ["swap ground"]
    assert events() == ["swap_failed"]


def test_lost_stub_comes_before_room(server, supervisor):
    server.kill("decode")
    server.crowding = {"ground"}
    supervisor.check()
    assert server.actions == ["reload decode"]


def test_status_tells_of_a_reload_and_counts_it(server, supervisor, monkeypatch):
    seen = []
    reload_model = server.reload_model

    def look(name: str) -> None:
        seen.append(supervisor.status())
        reload_model(name)

    monkeypatch.setattr(server, "reload_model", look)
    server.kill("ground")
    supervisor.check()
    assert not seen[0].is_ready
    assert seen[0].problems == ("model ground lost a process and is loaded again",)
    after = supervisor.status()
    assert after.is_ready
    assert (after.counters["stubs_died"], after.counters["model_reloads"]) == (1, 1)


def test_status_tells_of_a_restart_until_it_succeeds(server, supervisor):
    server.running, server.failures = False, 1
    supervisor.check()
    assert not supervisor.status().is_ready
    assert supervisor.status().problems == ("tritonserver ended and is started again",)
    supervisor.check()
    after = supervisor.status()
    assert after.is_ready
    assert after.problems == ()
    assert (after.counters["failed_server_restarts"], after.counters["server_restarts"]) == (1, 1)
