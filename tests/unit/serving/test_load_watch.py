from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from groundserve.serving import load_watch as module
from groundserve.serving.load_watch import end_if_load_hangs
from groundserve.serving.processes import ProcessInfo
from groundserve.serving.stubs import Sighting


def process(pid: int) -> ProcessInfo:
    return ProcessInfo(pid=pid, started_at=1, parent_pid=1, session_id=1, state="S")


SERVER = Sighting(process=process(1), role="server")


def stub(pid: int, heartbeat: str | None) -> Sighting:
    return Sighting(process=process(pid), role="stub", model="m", heartbeat=heartbeat)


@pytest.fixture
def killed(monkeypatch):
    """What was killed."""
    found: set[ProcessInfo] = set()
    monkeypatch.setattr(module, "kill_processes", found.update)
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.005)
    monkeypatch.setattr(module, "HANGING_SECONDS", 0.03)
    return found


def watch(*scenes: list[Sighting], until: Callable[[], bool]) -> None:
    """See one scene after another, each a few times, and then the last one."""
    seen = [SERVER]
    with end_if_load_hangs(lambda: list(seen)):
        for scene in scenes:
            seen[1:] = scene
            time.sleep(0.05)
        give_up_at = time.monotonic() + 5
        while not until() and time.monotonic() < give_up_at:
            time.sleep(0.01)


def test_server_that_waits_for_a_dead_process_is_killed(killed):
    watch([stub(2, None), stub(3, None)], [stub(3, None)], until=lambda: bool(killed))
    assert killed == {SERVER.process}


@pytest.mark.parametrize(
    "scenes",
    [
        pytest.param([[stub(2, None)]], id="it_loads"),
        pytest.param([[stub(2, None)], [stub(2, "heartbeat 0")], []], id="it_had_loaded"),
    ],
)
def test_server_whose_processes_load_or_did_is_left_alone(killed, scenes):
    give_up_at = time.monotonic() + 0.3
    watch(*scenes, until=lambda: time.monotonic() > give_up_at)
    assert not killed


def test_processes_of_before_may_end(killed):
    seen = [SERVER, stub(2, "heartbeat 1")]
    with end_if_load_hangs(lambda: list(seen)):
        for scene in ([stub(2, None)], []):  # its interpreter ends first
            seen[1:] = scene
            time.sleep(0.15)
    assert not killed


def test_load_that_ends_in_time_is_left_alone(killed, monkeypatch):
    monkeypatch.setattr(module, "HANGING_SECONDS", 0.3)
    seen = [SERVER]
    with end_if_load_hangs(lambda: list(seen)):
        seen.append(stub(2, None))
        time.sleep(0.05)
        seen.pop()
        time.sleep(0.05)
    time.sleep(0.4)
    assert not killed
