"""What the keeper says of its server: whether it serves, what is wrong, what happened so far."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

COUNTERS: Mapping[str, str] = MappingProxyType(
    {
        "server_restarts": "Times tritonserver was started again.",
        "failed_server_restarts": "Times tritonserver could not be started again.",
        "memory_restarts": "Times tritonserver was started again since it held too much memory.",
        "model_reloads": "Times a model that lost a process was loaded again.",
        "failed_model_reloads": "Times a model could not be loaded again.",
        "servers_died": "Times tritonserver ended by itself or was killed.",
        "servers_stalled": "Times tritonserver was killed because it did not answer.",
        "stubs_died": "Model processes that ended by themselves or were killed.",
        "vllm_restarts": "Times vLLM's server was started again.",
    }
)
"""What is counted since the keeper began, and what each means; all begin at 0."""


class StatusBoard:
    """Where the keeper writes what it sees; other threads may read."""

    def __init__(self) -> None:
        self.counters = dict.fromkeys(COUNTERS, 0)
        """How often each of `COUNTERS` happened."""
        # Subject -> what is wrong, and whether the server is not ready for it.
        self._problems: dict[str, tuple[str, bool]] = {}

    @property
    def is_ready(self) -> bool:
        """Whether requests of every kind are expected to be answered now."""
        return not any(blocks for _, blocks in list(self._problems.values()))

    @property
    def problems(self) -> list[str]:
        """What is wrong, a line each, in words for whoever runs it; some leave it ready."""
        return [text for text, _ in list(self._problems.values())]

    def report(self, subject: str, problem: str, *, blocks: bool = True) -> None:
        """Set what is wrong with a subject such as `model grounding`, in place of what was.

        The server is not ready until it is cleared, if it `blocks`.
        """
        self._problems[subject] = (problem, blocks)

    def clear(self, subject: str) -> None:
        """Say that nothing is wrong with a subject, whether anything was or not."""
        self._problems.pop(subject, None)

    def count(self, name: str) -> None:
        """Count one more of `COUNTERS`."""
        self.counters[name] += 1
