from __future__ import annotations

from collections.abc import Iterable

import pytest

from groundserve.serving.processes import ProcessInfo
from groundserve.serving.stalls import SILENT_SECONDS, STOPPED_SECONDS, StallDetector
from groundserve.serving.stubs import Role, Sighting

POLL_SECONDS = 0.25


def sighting(
    state: str = "S",
    heartbeat: str | None = "heartbeat 0",
    *,
    pid: int = 10,
    started_at: int = 1,
    role: Role = "stub",
) -> Sighting:
    process = ProcessInfo(pid, started_at, parent_pid=1, session_id=1, state=state)
    return Sighting(process=process, role=role, model="decode", heartbeat=heartbeat)


class Watch:
    """A detector, its clock, and what it said so far."""

    def __init__(self) -> None:
        self.detector = StallDetector()
        self.now = 100.0
        self.stalled: list[Sighting] = []

    def look(self, *sightings: Sighting, after: float = POLL_SECONDS) -> list[Sighting]:
        self.now += after
        found = [stall.sighting for stall in self.detector.look(self.now, sightings)]
        self.stalled += found
        return found

    def look_for(self, seconds: float, sightings: Iterable[Sighting]) -> None:
        for _ in range(round(seconds / POLL_SECONDS)):
            self.look(*sightings)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.mark.parametrize("role", ["server", "stub", "worker"])
def test_stopped_process_stalls_after_a_moment(watch, role):
    stopped = sighting("T", None, role=role)
    watch.look(stopped)
    watch.look_for(STOPPED_SECONDS - POLL_SECONDS, [stopped])
    assert watch.stalled == []
    assert watch.look(stopped) == [stopped]


def test_silent_stub_stalls(watch):
    silent = sighting()
    watch.look(silent)
    watch.look_for(SILENT_SECONDS - POLL_SECONDS, [silent])
    assert watch.stalled == []
    assert watch.look(silent) == [silent]


def test_late_beats_are_no_stall(watch):
    for beat in range(10):  # all cores are busy: a beat every 3 s, where 1 s is meant
        watch.look_for(3.0, [sighting(heartbeat=f"heartbeat {beat}")])
    assert watch.stalled == []


def test_long_computation_with_a_heartbeat_is_no_stall(watch):
    for beat in range(600):
        watch.look_for(1.0, [sighting("R", f"heartbeat {beat % 10}")])
    assert watch.stalled == []


def test_stub_that_loads_for_minutes_is_not_silent(watch):
    watch.look_for(300.0, [sighting("R", heartbeat=None)])
    watch.look_for(SILENT_SECONDS - POLL_SECONDS, [sighting()])
    assert watch.stalled == []


def test_time_in_which_nobody_looked_does_not_count(watch):
    silent = sighting()
    watch.look(silent)
    watch.look(silent, after=8 * 3600.0)  # the machine slept
    watch.look_for(SILENT_SECONDS - 1.0, [silent])
    assert watch.stalled == []


def test_debugger_may_keep_a_stub_for_long(watch):
    watch.look_for(60.0, [sighting("t")])
    watch.look_for(SILENT_SECONDS - POLL_SECONDS, [sighting("S")])
    assert watch.stalled == []


def test_stubs_of_one_model_are_told_apart(watch):
    silent = sighting(pid=10)
    for beat in range(8):
        watch.look_for(1.0, [silent, sighting(pid=11, heartbeat=f"heartbeat {beat}")])
    assert {stalled.process.pid for stalled in watch.stalled} == {10}


def test_reason_says_how_it_stalled(watch):
    reasons = []
    for state, heartbeat in (("T", None), ("S", "heartbeat 0")):
        detector = StallDetector()
        for look in range(30):
            stalls = detector.look(look * POLL_SECONDS, [sighting(state, heartbeat)])
            reasons += [stall.reason for stall in stalls][:1]
            if stalls:
                break
    assert reasons == ["it was stopped by a signal", "its heartbeat was silent for 5 s"]
