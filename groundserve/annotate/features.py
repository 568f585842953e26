"""Class tokens of CLIP's visual tower, by which frames are compared."""

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
            raise InvalidRequestError(
                f"cannot read the CLIP model {model} (--clip-model): {error}"
            ) from error

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
