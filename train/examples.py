"""What the data readers hand to the model: one video or image, and what is asked about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID

IGNORE_INDEX = -100
"""Target of a position that enters no language loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Text:
    """One sequence's text, with what is to be learnt from it."""

    ids: NDArray[np.int64]
    """int64 (L,), token ids with exactly one `IMAGE_TOKEN_ID`, where the visual tokens go."""
    targets: NDArray[np.int64] | None = None
    """int64 (L,), stages 1 to 3: the id at each position that is to be predicted from those
    before it, `IGNORE_INDEX` elsewhere."""
    labels: NDArray[np.float32] | None = None
    """float32 (T,), stage 4: 1 where the frame is relevant, else 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One video (or image, T = 1) with its questions; it is decoded and encoded once."""

    frames: NDArray[np.uint8]
    """uint8 (T, S, S, 3), RGB, resized to the vision tower's size."""
    grid: int
    """Side g of the token grid in this forward pass."""
    texts: tuple[Text, ...]
    """The sequences, at least one."""
    frame_targets: NDArray[np.float32] | None = None
    """float32 (T, A), what each frame shows, for the auxiliary loss; None where unknown."""


def blank_example(image_size: int, *, num_auxiliary: int = 0) -> Example:
    """Return one black frame and no question, which every model gives a loss.

    A process that has nothing to read passes it through the model, since the others wait for it.
    """
    text = Text(
        ids=np.array([IMAGE_TOKEN_ID], np.int64),
        targets=np.array([IGNORE_INDEX], np.int64),
        labels=np.zeros(1, np.float32),
    )
    return Example(
        frames=np.zeros((1, image_size, image_size, 3), np.uint8),
        grid=1,
        texts=(text,),
        frame_targets=np.zeros((1, num_auxiliary), np.float32),
    )
