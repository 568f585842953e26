"""A varied subset of frames, by how alike CLIP's visual tower finds them.

Features are (T, D), a row for each of T >= 1 frames in time order; what is returned are places of
the frames that are kept, increasing, the first among them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundserve import extras
from groundserve.errors import InvalidRequestError

_TOGETHER = 16
"""Pictures in one pass."""


class ClipFeatures:
    """A tower that is open."""

    def __init__(self, model: str) -> None:
        """Read a directory or hub id; InvalidRequestError where there is no such model."""
        transformers = extras.load("transformers", "build")
        try:
            self._tower = transformers.CLIPVisionModel.from_pretrained(model).eval()
            self._processor = transformers.CLIPImageProcessor.from_pretrained(model)
        except (OSError, ValueError) as error:
            raise InvalidRequestError(f"cannot read --clip-model {model}: {error}") from error

    def __call__(self, jpegs: Sequence[bytes]) -> NDArray[np.float32]:
        """Return float32 (T, D): the last layer's class tokens, before any norm or projection.

        The script beside VideoITG-40K computes in float16, and swaps red and blue of frames that
        are RGB already; neither is done here.
        """
        torch, pillow = extras.torch, extras.PIL.Image
        found = []
        for start in range(0, len(jpegs), _TOGETHER):
            some = jpegs[start : start + _TOGETHER]
            pictures = [pillow.open(io.BytesIO(one)).convert("RGB") for one in some]
            pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
            with torch.no_grad():
                states = self._tower(pixel_values=pixels).last_hidden_state
            found.append(states[:, 0].float().numpy())
        return np.concatenate(found)


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
