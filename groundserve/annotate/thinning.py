"""A varied subset of frames, by how alike they are.

Shape letters: T frames in time order, D width of a feature.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def thin_as_paper(features: NDArray[np.float32], *, scene_threshold: float) -> list[int]:
    """Keep a frame where it differs from the last one kept.

    Args:
        features: (T, D), in time order.
        scene_threshold: Least cosine of frames that are of one scene.

    Returns:
        Places of the frames that are kept, increasing, the first among them.

    Source: VideoITG (arXiv 2507.13353), its algorithm of frame selection.
    """
    unit = _unit(features)
    kept = [0] if len(unit) else []
    for place in range(1, len(unit)):
        if unit[place] @ unit[kept[-1]] < scene_threshold:
            kept.append(place)
    return kept


def thin_as_script(
    features: NDArray[np.float32], *, scene_threshold: float, diversity_threshold: float
) -> list[int]:
    """Keep a frame where it differs from the one before it, and go on behind one unlike it.

    The arguments and the result are those of `thin_as_paper`; `diversity_threshold` is the least
    cosine of frames that look the same.

    Source: the script `keyframe.py` beside VideoITG-40K.
    """
    unit = _unit(features)
    if not len(unit):
        return []
    kept, place = [0], 1
    while place < len(unit):
        if unit[place] @ unit[place - 1] >= scene_threshold:
            place += 1
            continue
        later = unit[place + 1 :] @ unit[place] < diversity_threshold
        kept.append(place)
        if not later.any():
            break
        place += int(later.argmax()) + 2
    last = len(unit) - 1
    if last not in kept and unit[last] @ unit[kept[-1]] < scene_threshold:
        kept.append(last)
    return kept


def _unit(features: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = features.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-12))
