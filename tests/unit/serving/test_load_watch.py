from __future__ import annotations

import threading

import pytest

from groundserve.serving import load_watch as module
from groundserve.serving.load_watch import end_if_load_hangs
from groundserve.serving.processes import ProcessInfo
from groundserve.serving.stubs import Sighting

WAIT_SECONDS = 30.0


def process(pid: int) -> ProcessInfo:
    return ProcessInfo(pid=pid, started_at=1, parent_pid=1, session_id=1, state="S")


SERVER = Sighting(process=process(1), role="server")


def stub(pid: int, heartbeat: str | None) -> Sighting:
    return Sighting(process=process(pid), role="stub", model="m", heartbeat=heartbeat)


@pytest.mark.parametrize(
    ("scenes", "is_killed"),
    [
        pytest.param([[], [stub(2, None), stub(3, None)], [stub(3, None)]], True, id="one_died"),
        pytest.param([[], [stub(2, None)], [stub(2, None)]], False, id="it_loads"),
        pytest.param([[], [stub(2, None)], [stub(2, "beat")], []], False, id="it_had_loaded"),
        # Of before the load: its interpreter ends first.
        pytest.param([[stub(2, "beat")], [stub(2, None)], []], False, id="another_ends"),
    ],
)
def test_server_is_killed_only_while_it_waits_for_a_dead_process(monkeypatch, scenes, is_killed):
    killed: set[ProcessInfo] = set()
    is_last_judged, all_seen = threading.Event(), threading.Event()
    left = [[SERVER, *scene] for scene in scenes]

    def look() -> list[Sighting]:
        if len(left) == 1:
            if is_last_judged.is_set():
                all_seen.set()
            is_last_judged.set()
            return left[0]
        return left.pop(0)

    def kill(processes: set[ProcessInfo]) -> None:
        killed.update(processes)
        all_seen.set()

    monkeypatch.setattr(module, "kill_processes", kill)
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(module, "HANGING_SECONDS", 0.0)
    with end_if_load_hangs(look):
        assert all_seen.wait(WAIT_SECONDS)
    assert killed == ({SERVER.process} if is_killed else set())
