"""Switches from one server to another, with servers that are only told what to do."""

from __future__ import annotations

import json
import logging
import signal
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from groundserve.errors import EngineMismatchError, UnavailableError
from groundserve.serving import service as module
from groundserve.serving.events import JsonFormatter
from groundserve.serving.service import Service
from groundserve.serving.stubs import Sighting, Stub


class FakeServer:
    """Has one stub; a successor waits in `start` until it is let go."""

    made: list[FakeServer]

    def __init__(self, engine_dir: Path, made: list[FakeServer]) -> None:
        self.engine_dir = engine_dir.resolve()
        self.engine_id = ""
        self.made = made
        self.pid: int | None = None
        self.start_error: Exception | None = None
        self.may_start = threading.Event()
        self.cancelled = threading.Event()
        self.open: list[str] = []
        self.num_looks = 0
        self.num_stubs = {"m": 1}
        self.alive: set[Stub] = set()
        self.actions: list[str] = []
        made.append(self)

    def successor(self, engine_dir: Path) -> FakeServer:
        return FakeServer(engine_dir, self.made)

    def start(self) -> None:
        self.actions.append("start")
        self.engine_id = (self.engine_dir / "manifest.json").read_text()
        while not self.may_start.wait(0.001):
            if self.cancelled.is_set():
                raise UnavailableError("told to stop")
        if self.start_error is not None:
            raise self.start_error
        self.pid = 100 + len(self.made)
        self.alive = {Stub(pid=self.pid + 1000, model="m", region=f"r{self.pid}")}

    def check_engines(self) -> None:
        if (self.engine_dir / "manifest.json").read_text() != self.engine_id:
            raise EngineMismatchError("the engine directory was rebuilt while it was in use")

    def is_running(self) -> bool:
        return self.pid is not None

    def stubs(self) -> set[Stub]:
        return set(self.alive)

    def sightings(self) -> list[Sighting]:
        return []

    def connections(self) -> list[str]:
        self.num_looks += 1
        return list(self.open)

    def restart(self) -> None:
        self.actions.append("restart")
        self.pid = 1

    def reload_model(self, name: str) -> None:
        self.actions.append(f"reload {name}")

    def cancel(self) -> None:
        self.cancelled.set()

    def forget_predecessor(self) -> None:
        self.actions.append("alone")

    def stop(self) -> None:
        self.actions.append("stop")
        self.pid, self.alive = None, set()

    def kill(self) -> None:
        self.pid, self.alive = None, set()


class FakePlace:
    """One place of both servers; writes down who got it."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def keep(self) -> None:
        self.log.append("keep")

    def to(self, pid: int) -> None:
        self.log.append(f"to {pid}")

    def while_closing(self) -> AbstractContextManager[None]:
        return nullcontext()


class FakeManifest:
    """The text of manifest.json is the identity."""

    def __init__(self, engine_id: str) -> None:
        self.engine_id = engine_id

    @classmethod
    def load(cls, engine_dir: Path) -> FakeManifest:
        try:
            return cls((engine_dir / "manifest.json").read_text())
        except OSError as error:
            raise EngineMismatchError("no readable manifest.json") from error


class World:
    """A service on a link to one of two directories."""

    def __init__(self, root: Path) -> None:
        for name in ("a", "b"):
            (root / name).mkdir()
            (root / name / "manifest.json").write_text(f"id-{name}")
        self.root = root
        self.link = root / "current"
        self.link.symlink_to(root / "a")
        self.servers: list[FakeServer] = []
        self.steps: list[str] = []
        self.place = FakePlace(self.steps)
        first = FakeServer(self.link, self.servers)
        first.may_start.set()
        self.service = Service(first, self.link)
        self.service.start()

    @property
    def first(self) -> FakeServer:
        return self.servers[0]

    @property
    def second(self) -> FakeServer:
        return self.servers[1]

    def point_to(self, name: str) -> None:
        self.link.unlink()
        self.link.symlink_to(self.root / name)

    def look(self) -> bool:
        return self.service._goes_on()

    def look_until_loaded(self) -> bool:
        self.service._loading.thread.join(5)
        return self.look()

    def look_until_drained(self) -> None:
        self.service._draining.thread.join(5)
        self.look()

    def switch(self) -> None:
        self.point_to("b")
        self.service.request_switch()
        self.look()
        self.second.may_start.set()
        assert not self.look_until_loaded()


@pytest.fixture
def world(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "groundserve.serving.events")
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(module, "Manifest", FakeManifest)
    made = World(tmp_path)
    monkeypatch.setattr(module, "_places", lambda server: [made.place] if server.pid else [])
    yield made
    made.service.stop()


def events(caplog) -> list[dict]:
    return [json.loads(JsonFormatter().format(record)) for record in caplog.records]


def names(caplog) -> list[str]:
    return [event["event"] for event in events(caplog)]


def test_old_server_is_not_stopped_before_its_connections_are_gone(world):
    world.first.open = ["busy"]
    world.switch()
    assert world.service.status().problems == ("the server before finishes its requests",)
    assert world.service.status().is_ready
    seen = world.first.num_looks
    while world.first.num_looks < seen + 3:
        world.service._draining.thread.join(0.001)
        assert world.service._draining.thread.is_alive()
    assert "stop" not in world.first.actions
    world.first.open = []
    world.look_until_drained()
    assert world.first.actions == ["start", "stop"]


def test_connections_that_do_not_end_are_cut_at_last(world, monkeypatch, caplog):
    monkeypatch.setattr(module, "MAX_CONNECTION_AGE_SECONDS", 0.0)
    monkeypatch.setenv("GROUNDSERVE_MAX_REQUEST_SECONDS", "0.01")
    world.first.open = ["for ever"]
    world.switch()
    world.look_until_drained()
    assert events(caplog)[-1]["connections_cut"] == 1


def test_server_that_does_not_start_leaves_the_old_one(world, caplog):
    error = UnavailableError("no room")
    world.point_to("b")
    world.service.request_switch()
    world.look()
    world.second.start_error = error
    world.second.may_start.set()
    assert world.look_until_loaded()
    assert world.service.server is world.first
    assert world.first.actions == ["start"]
    assert names(caplog) == ["switch_started", "switch_failed"]
    status = world.service.status()
    assert status.is_ready
    assert status.problems == (f"the last switch of engines failed: {error}",)
    assert status.counters["failed_switches"] == 1


def test_log_of_a_server_that_does_not_start_is_not_shown_to_everybody(world):
    world.point_to("b")
    world.service.request_switch()
    world.look()
    world.second.start_error = UnavailableError("it ended; its log says why:\n{'query': 'mine'}")
    world.second.may_start.set()
    world.look_until_loaded()
    (problem,) = world.service.status().problems
    assert problem == "the last switch of engines failed: it ended; its log says why:"


@pytest.mark.parametrize("what", ["server", "stub"])
def test_new_server_that_dies_before_it_took_over_leaves_the_old_one(world, what):
    world.point_to("b")
    world.service.request_switch()
    world.look()
    world.second.may_start.set()
    world.service._loading.thread.join(5)
    world.second.alive.clear()
    if what == "server":
        world.second.pid = None
    assert world.look()
    assert world.service.server is world.first
    assert world.second.pid is None
    assert "to" not in " ".join(world.steps)
    assert "the new server" in world.service.status().problems[0]


def test_second_request_during_a_switch_is_done_after_it(world, caplog):
    world.point_to("b")
    world.service.request_switch()
    world.look()
    world.service.request_switch()
    world.service.request_switch()
    world.point_to("a")
    world.look()
    assert len(world.servers) == 2
    world.second.may_start.set()
    world.look_until_loaded()
    world.look_until_drained()
    assert len(world.servers) == 3
    world.servers[2].may_start.set()
    world.look_until_loaded()
    world.look_until_drained()
    assert world.service.server.engine_id == "id-a"
    assert names(caplog).count("switched") == 2
    assert len(world.servers) == 3


def test_end_while_the_new_server_loads_ends_both(world):
    world.point_to("b")
    world.service.request_switch()
    world.look()
    world.service.stop()
    assert (world.first.pid, world.second.pid) == (None, None)
    assert world.second.cancelled.is_set()


def test_ever_more_signals_leave_no_server(world, monkeypatch):
    world.first.open = ["for ever"]
    world.switch()
    killed = []

    def kill(server: FakeServer) -> None:
        signal.raise_signal(signal.SIGINT)
        killed.append(server)
        server.pid = None

    monkeypatch.setattr(FakeServer, "kill", kill)
    with pytest.raises(KeyboardInterrupt):
        world.service.stop()
    monkeypatch.undo()
    assert set(killed) == {world.first, world.second}
