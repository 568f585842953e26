"""Interfaces of the grounding stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from python_backend.arrays import Array

if TYPE_CHECKING:
    from torch import Tensor


class Grounder(Protocol):
    """Scores all frames of one video for one question."""

    def ground(self, features: Array, text_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (T,), logits before the sigmoid, of (U, P, D) and int64 (L,)."""


class TokenScorer(Protocol):
    """The decoder of a GPU engine: embeddings in, the head's score of every token out.

    The head is linear, so the mean over a frame's tokens may be taken after it: that leaves one
    number a token to hand out, and no engine needs to know of frames.
    """

    def score(self, inputs_embeds: Tensor) -> Tensor:
        """Return float32 (S,) for (S, D), contiguous, in the engine's dtype; both on the GPU."""
