"""Interfaces of the generation stage: a decoder whose past is kept, and a video's block before it.

Shape letters: S positions of one pass, N rows of the video's block, H decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import EngineMismatchError
from python_backend.arrays import Array


class Front(Protocol):
    """What makes embeddings: of text by a table, of a video by a small network."""

    def embed_video(self, features: Array, inputs: Sequence[NDArray[np.float32]]) -> Array:
        """Return (N, H), the video's block, wherever the decoder takes it.

        Features are (U, P, D), inputs the family's `front_arrays`.
        """

    def embed_text(self, token_ids: NDArray[np.int64]) -> Array:
        """Return (S, H) of int64 (S,), wherever the decoder takes it; see `check_token_ids`."""


class Decoder(Protocol):
    """A causal decoder, one sequence at a time; several pasts may be worked on from threads.

    Some rotate the positions of a long sequence otherwise than those of a short one; each such way
    is a *regime*. What a past holds stays as it was computed.
    """

    def regime(self, num_positions: int) -> int:
        """Return the regime of sequences of so many positions: 0 of the short, never falling.

        Always 0 where all positions are rotated alike.
        """

    def begin(self, max_positions: int) -> Any:
        """Return a past without a position: it has `num_positions`, and can `crop` to fewer."""

    def extend(
        self,
        embeddings: Array,
        past: Any,
        *,
        regime: int,
        position_ids: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Compute further positions, (S, H), S >= 1, which the past has then, too.

        Their regime is at least that of all positions with them; `position_ids`, int64 (A, S), are
        counted on where None. Return float32 (V,), logits of the last position.
        """


def check_token_ids(token_ids: NDArray[np.int64], vocab_size: int) -> None:
    """Raise EngineMismatchError where a table of text embeddings has no row for an id."""
    wrong = token_ids[(token_ids < 0) | (token_ids >= vocab_size)]
    if wrong.size:
        raise EngineMismatchError(
            f"the tokenizer gave the id {wrong[0]}, and the model has {vocab_size} embeddings; "
            "build the engine directory of a checkpoint whose tokenizer is the model's"
        )
