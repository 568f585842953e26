"""Interfaces of the grounding stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from python_backend.arrays import Array

if TYPE_CHECKING:
    from torch import Tensor


class Grounder(Protocol):
    """Scores all frames of one video for one question."""

    def ground(self, features: Array, text_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (T,), logits before the sigmoid, of (U, P, D) and int64 (L,)."""


@runtime_checkable
class PackedGrounder(Grounder, Protocol):
    """A grounder that also scores several questions in one pass, without padding."""

    @property
    def max_num_tokens(self) -> int:
        """Most tokens, visual and text of all questions together, in one pass."""

    def ground_packed(
        self, features: Array, text_ids: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        """Return float32 (q, T), one row a question; each equals what `ground` returns alone.

        Visual and text tokens of all q questions take at most `max_num_tokens`.
        """


class TokenScorer(Protocol):
    """The decoder of a GPU engine: embeddings in, the head's score of every token out.

    The head is linear, so the mean over a frame's tokens may be taken after it: that leaves one
    number a token to hand out, and no engine needs to know of frames.
    """

    @property
    def max_num_tokens(self) -> int:
        """Most tokens in one pass."""

    def score(self, inputs_embeds: Sequence[Tensor]) -> list[Tensor]:
        """Return for each sequence float32 (S,), on the GPU; sequences do not see each other.

        Each is (S, D), contiguous, on the GPU, in the engine's dtype.
        """
