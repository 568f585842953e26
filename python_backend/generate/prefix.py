"""What all questions on a video have in front, computed once and followed by each in turn.

Shape letters: S positions, N rows of the video's block, H decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.families.plans import VISUAL_TOKEN_ID
from groundserve.runtime.deadline import Deadline
from python_backend.arrays import Array, concatenate
from python_backend.generate.base import Decoder, Front
from python_backend.interruption import ending_with

CHUNK = 512
"""Most positions of one pass: what a pass allocates grows with them, and a deadline waits for it.

Chunks are counted from where a prefix or a question begins, so none depends on what else is asked.
"""


class Prefix:
    """Positions in a decoder's past that stay, whatever follows them."""

    def __init__(
        self, decoder: Decoder, front: Front, past: Any, *, regime: int, deadline: Deadline
    ) -> None:
        self._decoder = decoder
        self._front = front
        self._past = past
        self._regime = regime
        self._deadline = deadline
        self.num_positions: int = past.num_positions
        self._last_ids: NDArray[np.int64] | None = None

    @classmethod
    def compute(
        cls,
        embeddings: Array,
        *,
        room: int,
        regime: int,
        decoder: Decoder,
        front: Front,
        deadline: Deadline,
        position_ids: NDArray[np.int64] | None = None,
    ) -> Self:
        """Compute a prefix of (S, H), S >= 1, from `embed_prompt`, with room for what follows it.

        The regime is that of the whole prompts that it will be part of. The deadline is checked
        before each pass, here and later.
        """
        past = decoder.begin(len(embeddings) + room)
        _extend(decoder, embeddings, past, position_ids, regime=regime, deadline=deadline)
        return cls(decoder, front, past, regime=regime, deadline=deadline)

    def follow(
        self, token_ids: NDArray[np.int64], position_ids: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Forget what followed the prefix, and follow it with a question, in the same regime.

        Return float32 (V,), logits of the last of its tokens, int64 (S,), S >= 1, all of text.
        """
        self._past.crop(self.num_positions)
        whole = self._decoder.regime(self.num_positions + len(token_ids))
        assert whole <= self._regime, "a prompt is computed in one regime, from its beginning"
        return self._append(token_ids, position_ids, regime=self._regime)

    def extend(
        self, token_ids: NDArray[np.int64], *, regime: int | None = None
    ) -> NDArray[np.float32]:
        """Follow what there is with more, in at least the regime of all there is then."""
        if regime is None:
            regime = self._decoder.regime(self._past.num_positions + len(token_ids))
        position_ids = None
        if self._last_ids is not None:  # on from the highest, on all axes alike
            further = self._last_ids.max() + 1 + np.arange(len(token_ids))
            position_ids = np.tile(further, (len(self._last_ids), 1))
        return self._append(token_ids, position_ids, regime=regime)

    def _append(
        self, token_ids: NDArray[np.int64], position_ids: NDArray[np.int64] | None, *, regime: int
    ) -> NDArray[np.float32]:
        self._last_ids = position_ids
        return _extend(
            self._decoder,
            self._front.embed_text(token_ids),
            self._past,
            position_ids,
            regime=regime,
            deadline=self._deadline,
        )


def embed_prompt(token_ids: NDArray[np.int64], blocks: Sequence[Array], front: Front) -> Array:
    """Return (S, H), text as its embeddings and each `VISUAL_TOKEN_ID` as its block (N, H)."""
    parts: list[Array] = []
    start = 0
    places = np.flatnonzero(token_ids == VISUAL_TOKEN_ID)
    for place, block in zip(places, blocks, strict=True):
        parts += [front.embed_text(token_ids[start:place]), block]
        start = place + 1
    parts.append(front.embed_text(token_ids[start:]))
    return concatenate([part for part in parts if len(part)])


def parts_of_block(block: Array, number: int) -> list[Array]:
    """Divide a video's block (N, H) into equal parts, one for each of its places in a prompt."""
    size, rest = divmod(len(block), number)
    assert rest == 0, "the places of a block have equal parts of it"
    return [block[start : start + size] for start in range(0, len(block), size)]


def _extend(
    decoder: Decoder,
    embeddings: Array,
    past: Any,
    position_ids: NDArray[np.int64] | None,
    *,
    regime: int,
    deadline: Deadline,
) -> NDArray[np.float32]:
    with ending_with(deadline):
        for start in range(0, len(embeddings), CHUNK):
            deadline.check()
            chunk = slice(start, start + CHUNK)
            told = None if position_ids is None else position_ids[:, chunk]
            logits = decoder.extend(embeddings[chunk], past, regime=regime, position_ids=told)
    return logits
