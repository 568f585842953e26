"""Interface of the grounding stage."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Grounder(Protocol):
    """Scores all frames of one video for one question."""

    def ground(
        self, features: NDArray[np.float32], text_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return float32 (T,), logits before the sigmoid.

        Args:
            features: float32 (T, g*g, D_v) of the whole video.
            text_ids: int64 (L,), L >= 1, from `groundserve.prompts.QueryTokenizer.text_ids`.
        """
        ...
