"""What all units of a job have in common, and the error that ends one."""

from __future__ import annotations

from dataclasses import dataclass

from groundserve.batch.engines import Source
from groundserve.batch.frame_output import FrameOutput
from groundserve.batch.shards import Staging
from groundserve.errors import GroundserveError
from groundserve.limits import Limits
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD

DEFAULT_DEADLINE_SECONDS = 600.0
"""Longest time of one call of the scorer, and of copying one video."""
HANG_SECONDS = 30.0
"""By how much either may pass its deadline before its process is ended."""


class JobError(GroundserveError):
    """No row's fault: the job cannot go on."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Small, so that it travels to the workers."""

    source: Source
    engine_id: str
    """Of the engines that the run directory is bound to."""
    staging: Staging
    num_threads: int = 1
    deadline_seconds: float = DEFAULT_DEADLINE_SECONDS
    hang_seconds: float = HANG_SECONDS
    span_threshold: float = DEFAULT_SPAN_THRESHOLD
    span_gap_seconds: float = DEFAULT_SPAN_GAP_SECONDS
    frames: FrameOutput | None = None
    """Where selected frames are written as images; None: nowhere."""

    @property
    def limits(self) -> Limits:
        """Ceilings on a call in this process."""
        usual = Limits()
        return Limits(max_request_seconds=max(usual.max_request_seconds, self.deadline_seconds))

    @property
    def silence_seconds(self) -> float:
        """How long a step may take before its process is ended."""
        return self.deadline_seconds + self.hang_seconds
