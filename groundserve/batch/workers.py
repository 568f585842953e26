"""Who scores, as the command line says it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from groundserve.batch.cluster import Resources
from groundserve.errors import InvalidRequestError


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many workers there are, and what each may use."""

    count: int | None = None
    """How many; as many as there are cores, or GPUs where they use those, if None."""
    cpus_each: float = 1.0
    """Cores of each, and as many threads."""
    gpus_each: float = 0.0
    """GPUs of each; a half lets two share one."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise InvalidRequestError(f"--workers must be >= 1, got {self.count}")
        if not 0 < self.cpus_each < math.inf:
            raise InvalidRequestError(
                f"--cpus-per-worker must be a number > 0, got {self.cpus_each}"
            )
        if not 0 <= self.gpus_each < math.inf:
            raise InvalidRequestError(
                f"--gpus-per-worker must be a number >= 0, got {self.gpus_each}"
            )

    @property
    def num_threads(self) -> int:
        """Threads of each worker's engines."""
        return max(1, int(self.cpus_each))

    def number(self, resources: Resources) -> int:
        """Return how many workers there are.

        Raises:
            InvalidRequestError: Ray was started here, and this machine has no room for one.
        """
        ratios = [("cores", resources.num_cpus / self.cpus_each)]
        if self.gpus_each:
            ratios.append(("GPUs", resources.num_gpus / self.gpus_each))
        what, most = min(ratios, key=lambda ratio: ratio[1])
        if resources.is_local and most < 1:
            raise InvalidRequestError(
                f"a worker wants more {what} than this machine has; "
                "lower --cpus-per-worker or --gpus-per-worker"
            )
        return self.count or max(1, int(most))
