"""Decode a whole file with plain PyAV: the slow reference that cutting is compared with."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def decode_whole_file(path: Path) -> list[NDArray[np.uint8]]:
    """Return every frame, RGB (H, W, 3) with the display rotation applied, by presentation time."""
    with av.open(str(path)) as container:
        frames = sorted(container.decode(video=0), key=lambda frame: frame.pts)
        return [np.rot90(f.to_ndarray(format="rgb24"), k=f.rotation // 90) for f in frames]
