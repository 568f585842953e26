"""What the data readers hand to the model: one video or image, and what is asked about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORE_INDEX = -100
"""Target of a position that enters no language loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Text:
    """One sequence's text, with what is to be learnt from it."""

    ids: NDArray[np.int64]
    """int64 (L,), token ids with exactly one that is none: the place of the visual tokens."""
    targets: NDArray[np.int64] | None = None
    """int64 (L,), stages 1 to 3: the id at each position that is to be predicted from those
    before it, `IGNORE_INDEX` elsewhere."""
    labels: NDArray[np.float32] | None = None
    """float32 (T,), stage 4: 1 where the frame is relevant, else 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One video (or image, T = 1) with its questions; it is decoded and encoded once."""

    frames: NDArray[np.uint8]
    """uint8 (T, S, S, 3), RGB, resized to the vision tower's size; of a text family the first
    stream of its units, (U, ...) for T, or U empty frames where there are `features`."""
    tokens_per_frame: int
    """P, visual tokens of each frame in this forward pass."""
    texts: tuple[Text, ...]
    """The sequences, at least one."""
    frame_targets: NDArray[np.float32] | None = None
    """float32 (T, A), what each frame shows, for the auxiliary loss; None where unknown."""
    more_streams: tuple[NDArray[np.uint8], ...] = ()
    """(U, ...), the other streams of a text family."""
    front_arrays: tuple[NDArray[np.float32], ...] = ()
    """What a text family's front takes beside the features, as `TextFamily.front_arrays` says."""
    num_pooled: int | None = None
    """Visual tokens that all features are pooled to; None: they are not."""
    features: NDArray[Any] | None = None
    """Floats (T, P, D_v) that were extracted before; None: the frames are encoded."""

    @property
    def num_visual_tokens(self) -> int:
        """T * P, or fewer where they are pooled; in each sequence."""
        return self.num_pooled or len(self.frames) * self.tokens_per_frame

    @property
    def num_tokens(self) -> int:
        """Visual and text tokens of all sequences."""
        # The placeholder is an id and no token.
        return sum(self.num_visual_tokens + len(text.ids) - 1 for text in self.texts)
