"""Interface of the decode stage."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.media import Segments


class FrameDecoder(Protocol):
    """Decodes the target frames of segments."""

    def decode(self, segments: Segments, *, deadline: Deadline) -> NDArray[np.uint8]:
        """Return uint8 (m, S, S, 3), RGB, one frame a target, in the targets' order."""
        ...
