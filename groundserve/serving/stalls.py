"""Decide which processes of a server have stalled: stopped by a signal, or silent.

A stalled stub must not go on: tritonserver 2.51 gives a request up when its stub has not moved for
a second and frees what the stub still holds, so a stub that is continued later writes into other
requests or ends the server (docs/operate.md says what was seen).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from groundserve.serving.processes import ProcessInfo
from groundserve.serving.stubs import Sighting

STOPPED_SECONDS = 0.5
"""How long a process is seen stopped (SIGSTOP) before it counts as stalled."""

SILENT_SECONDS = 5.0
"""How long a heartbeat shows the same before its process counts as stalled."""

MAX_GAP_SECONDS = 0.5
"""Most of the time between two looks that counts: whoever looks may have stood still, too."""


@dataclass(frozen=True)
class Stall:
    """A process that has stalled."""

    sighting: Sighting
    """What was seen of it last."""
    reason: str
    """In what way, for the log."""


@dataclass(frozen=True)
class _Watched:
    """What is known of a process since the last look."""

    sighting: Sighting
    stopped_seconds: float = 0.0
    silent_seconds: float = 0.0


class StallDetector:
    """Adds up how long each process has been seen stopped or silent."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._looked_at: float | None = None
        self._watched: dict[ProcessInfo, _Watched] = {}

    def look(self, now: float, sightings: Iterable[Sighting]) -> list[Stall]:
        """Take in what is seen now and return what has stalled; each is then told of anew.

        Args:
            now: Seconds of a clock that never goes back.
            sightings: All processes that live. One without a heartbeat is never silent: it loads.
        """
        gap = 0.0 if self._looked_at is None else min(now - self._looked_at, MAX_GAP_SECONDS)
        self._looked_at = now
        seen = {sighting.process: self._judge(sighting, gap) for sighting in sightings}
        stalls = {process: stall for process, w in seen.items() if (stall := _stall(w))}
        # What has stalled is forgotten: it will be killed, and if that fails, be told of again.
        self._watched = {process: w for process, w in seen.items() if process not in stalls}
        return list(stalls.values())

    def _judge(self, sighting: Sighting, gap: float) -> _Watched:
        before = self._watched.get(sighting.process)
        if before is None or sighting.is_traced:  # a debugger may stop what it likes
            return _Watched(sighting)
        # At both looks: the time between them counts only where it was stopped all along, as far as
        # can be seen.
        was_stopped = before.sighting.is_stopped and sighting.is_stopped
        was_silent = (
            sighting.heartbeat is not None
            and sighting.heartbeat == before.sighting.heartbeat
            and not before.sighting.is_traced
        )
        return _Watched(
            sighting,
            stopped_seconds=before.stopped_seconds + gap if was_stopped else 0.0,
            silent_seconds=before.silent_seconds + gap if was_silent else 0.0,
        )


def _stall(watched: _Watched) -> Stall | None:
    if watched.stopped_seconds >= STOPPED_SECONDS:
        return Stall(watched.sighting, "it was stopped by a signal")
    if watched.silent_seconds >= SILENT_SECONDS:
        return Stall(watched.sighting, f"its heartbeat was silent for {SILENT_SECONDS:g} s")
    return None
