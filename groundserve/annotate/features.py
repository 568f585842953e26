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
    """The tower, read when it is first needed."""

    def __init__(self, model: str) -> None:
        self._name = model
        self._opened = False

    def __call__(self, jpegs: Sequence[bytes]) -> NDArray[np.float32]:
        """Return float32 (T, D): the last layer's class tokens, before any norm or projection.

        The script beside VideoITG-40K computes in float16, and swaps red and blue of frames that
        are RGB already; neither is done here.

        Raises:
            InvalidRequestError: There is no such model.
        """
        self._open()
        torch, pillow = extras.torch, extras.PIL.Image
        found = []
        for start in range(0, len(jpegs), _TOGETHER):
            some = jpegs[start : start + _TOGETHER]
            pictures = [pillow.open(io.BytesIO(one)).convert("RGB") for one in some]
            pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
            with torch.no_grad():
                states = self._tower(pixel_values=pixels).last_hidden_state
            found.append(states[:, 0].float().numpy())
        return np.concatenate(found) if found else np.zeros((0, 1), np.float32)

    def _open(self) -> None:
        if self._opened:
            return
        transformers = extras.load("transformers", "build")
        try:
            self._tower = transformers.CLIPVisionModel.from_pretrained(self._name).eval()
            self._processor = transformers.CLIPImageProcessor.from_pretrained(self._name)
        except (OSError, ValueError) as error:
            raise InvalidRequestError(
                f"cannot read the CLIP model {self._name} (--clip-model): {error}"
            ) from error
        self._opened = True
