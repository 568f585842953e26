"""What is to be learnt about each frame, from the ordinals that a record names.

Shape letters: T sampled frames, A auxiliary targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundserve.data_record import FrameTargets
from groundserve.errors import InvalidRequestError


def frame_labels(positive_frames: Sequence[int], *, num_frames: int) -> NDArray[np.float32]:
    """Return float32 (T,), 1 at the ordinals given.

    Args:
        positive_frames: `frame_num`, each >= 0; empty where nothing answers.
        num_frames: T.

    Raises:
        InvalidRequestError: One is not below T.
    """
    if positive_frames and max(positive_frames) >= num_frames:
        raise InvalidRequestError(
            f"frame_num must be below {num_frames}, the number of sampled frames, "
            f"got {max(positive_frames)}"
        )
    # Ordinals are >= 0 by then: `parse_record` refuses others, which would count from the end here.
    labels = np.zeros(num_frames, np.float32)
    labels[list(positive_frames)] = 1
    return labels


def multi_hot(targets: FrameTargets | None, *, num_frames: int) -> NDArray[np.float32] | None:
    """Return float32 (T, A), 1 where a frame shows a thing; None without targets.

    Args:
        targets: The record's `frame_targets`.
        num_frames: T.

    Raises:
        InvalidRequestError: The targets are of another number of frames.
    """
    if targets is None:
        return None
    if len(targets.frames) != num_frames:
        raise InvalidRequestError(
            f"frame_targets must have one list a sampled frame, {num_frames}, "
            f"got {len(targets.frames)}"
        )
    array = np.zeros((num_frames, targets.num), np.float32)
    # `row` is a view, so this writes into the array.
    for row, shown in zip(array, targets.frames, strict=True):
        row[list(shown)] = 1
    return array
