"""A varied subset of frames, by how alike they are.

Features are (T, D), a row for each of T >= 1 frames in time order; what is returned are places of
the frames that are kept, increasing, the first among them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def thin_as_paper(features: NDArray[np.float32], *, scene_threshold: float) -> list[int]:
    """Keep a frame whose cosine with the last one kept is below the threshold.

    Source: VideoITG (arXiv 2507.13353), its algorithm of frame selection.
    """
    unit = _unit(features)
    kept = [0]
    for place in range(1, len(unit)):
        if unit[place] @ unit[kept[-1]] < scene_threshold:
            kept.append(place)
    return kept


def thin_as_script(
    features: NDArray[np.float32], *, scene_threshold: float, diversity_threshold: float
) -> list[int]:
    """Keep a frame unlike the one before it, and go on behind the next that differs from it.

    Source: the script `keyframe.py` beside VideoITG-40K.
    """
    unit = _unit(features)
    kept, place, last = [0], 1, len(unit) - 1
    while place <= last:
        if unit[place] @ unit[place - 1] >= scene_threshold:
            place += 1
            continue
        kept.append(place)
        differs = unit[place + 1 :] @ unit[place] < diversity_threshold
        if not differs.any():
            break
        place += int(differs.argmax()) + 2
    if last not in kept and unit[last] @ unit[kept[-1]] < scene_threshold:
        kept.append(last)
    return kept


def _unit(features: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = features.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-12))
