"""Interfaces of the generation stage: a decoder whose past is kept, and a video's block before it.

Shape letters: S positions of one pass, N rows of the video's block, H decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from python_backend.arrays import Array

Embeddings = Any
"""(S, H), wherever the decoder takes it: numpy's or a tensor of PyTorch's."""

Past = Any
"""Keys and values of the positions so far: whatever a decoder keeps them in."""


class Front(Protocol):
    """What makes embeddings: of text by a table, of a video by a small network."""

    def embed_video(self, features: Array, inputs: Sequence[NDArray[np.float32]]) -> Embeddings:
        """Return (N, H), the video's block.

        Args:
            features: (U, P, D), as `VisionEncoder.encode` returns them.
            inputs: Of the family's `front_arrays`.
        """
        ...

    def embed_text(self, token_ids: NDArray[np.int64]) -> Embeddings:
        """Return (S, H) of int64 (S,), each an id of the vocabulary."""
        ...

    def join(self, parts: Sequence[Embeddings]) -> Embeddings:
        """Return one after another as one."""
        ...


class Decoder(Protocol):
    """A causal decoder, one sequence at a time."""

    def extend(self, embeddings: Embeddings, past: Past | None) -> tuple[NDArray[np.float32], Past]:
        """Compute further positions.

        Args:
            embeddings: (S, H), S >= 1.
            past: Of the positions before, which may be extended again and again: this one is left
                as it is. None at the beginning.

        Returns:
            float32 (V,), logits of the last position, and the past with the new ones.
        """
        ...
