"""What a service says of itself: whether it serves, what is wrong, what happened so far."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

COUNTERS: Mapping[str, str] = MappingProxyType(
    {
        "server_restarts": "Times tritonserver was started again.",
        "failed_server_restarts": "Times tritonserver could not be started again.",
        "model_reloads": "Times a model that lost a process was loaded again.",
        "failed_model_reloads": "Times a model could not be loaded again.",
        "model_swaps": "Times a model was loaded anew to give back shared memory.",
        "servers_died": "Times tritonserver ended by itself or was killed, as stalled or not.",
        "servers_stalled": "Times tritonserver was killed because it was stopped.",
        "stubs_died": "Model processes that ended by themselves or were killed, as stalled or not.",
        "stubs_stalled": "Model processes that were killed because they were stopped or silent.",
        "workers_stalled": "Media workers that were killed because they were stopped.",
        "switches": "Times another server with other engines took over.",
        "failed_switches": "Times no other server could take over.",
    }
)
"""What is counted since the supervisor began, and what each means; all begin at 0."""


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """A service at one moment."""

    is_ready: bool
    """Whether requests of every kind are expected to be answered now."""
    problems: tuple[str, ...]
    """What is wrong, a line each, in words for whoever runs it; some leave the service ready."""
    counters: Mapping[str, int]
    """How often each of `COUNTERS` happened."""


class StatusBoard:
    """Where those who keep a service write what they see; any thread may write and read."""

    def __init__(self, counters: Mapping[str, int] = MappingProxyType({})) -> None:
        """Begin ready.

        Args:
            counters: What was counted before; nothing was where left out.
        """
        self._lock = threading.Lock()
        # Subject -> what is wrong, and whether the service is not ready for it; in the order of
        # reports.
        self._problems: dict[str, tuple[str, bool]] = {}
        self._counters = {**dict.fromkeys(COUNTERS, 0), **counters}

    def status(self) -> ServiceStatus:
        """Return what is known now."""
        with self._lock:
            return ServiceStatus(
                is_ready=not any(blocks for _, blocks in self._problems.values()),
                problems=tuple(text for text, _ in self._problems.values()),
                # A copy: the board goes on counting.
                counters=MappingProxyType(dict(self._counters)),
            )

    def report(self, subject: str, problem: str, *, blocks: bool = True) -> None:
        """Set what is wrong with a subject, in place of what was.

        Args:
            subject: What it is about, such as `model grounding`; names the problem for `clear`.
            problem: One line.
            blocks: Whether the service is not ready until it is cleared.
        """
        with self._lock:
            self._problems[subject] = (problem, blocks)

    def clear(self, subject: str) -> None:
        """Say that nothing is wrong with a subject, whether anything was or not."""
        with self._lock:
            self._problems.pop(subject, None)

    def count(self, name: str) -> None:
        """Count one more of `COUNTERS`."""
        with self._lock:
            self._counters[name] += 1
