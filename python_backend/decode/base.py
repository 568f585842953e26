"""Interface of the decode stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from groundserve.deadline import Deadline
from groundserve.media import Segments
from python_backend.arrays import Array


@dataclass(frozen=True, eq=False)
class DecodedFrames:
    """The frames of one call."""

    frames: Array
    """uint8 (m, S, S, 3) or, as decoded, (m, H, W, 3), RGB, one frame a target, in their order."""
    decoder: str
    """What decoded them, for INFO: "pyav", "dali", or "pyav (why not dali)"."""


class FrameDecoder(Protocol):
    """Decodes the target frames of segments."""

    def decode(self, segments: Segments, *, deadline: Deadline) -> DecodedFrames:
        """Decode, rotate as the file asks, and resize to the model's size where it has one.

        Args:
            segments: Of one group: at most as many targets as `VisionInputs.chunk_frames`.
            deadline: When to give up.
        """
        ...
