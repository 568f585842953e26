"""Interface of the decode stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from groundserve.media import Segments
from groundserve.runtime.deadline import Deadline
from python_backend.arrays import Array


@dataclass(frozen=True, eq=False)
class DecodedFrames:
    """The frames of one call."""

    streams: tuple[Array, ...]
    """In the family's order, each uint8 (k, S, S, 3) or, as decoded, (m, H, W, 3), RGB: of the
    targets that the stream shows one frame each, in their order."""
    decoder: str
    """What decoded them, for INFO: "pyav", "dali", or "pyav (why not dali)"."""

    @property
    def frames(self) -> Array:
        """What the only stream has."""
        (frames,) = self.streams
        return frames


class FrameDecoder(Protocol):
    """Decodes the target frames of segments."""

    def decode(
        self, segments: Segments, *, shown: NDArray[np.bool_] | None = None, deadline: Deadline
    ) -> DecodedFrames:
        """Decode a group, rotate as the file asks, and resize for each stream that has a size.

        `shown`, bool (m, s), is which streams show each target; all of them where None.
        """
