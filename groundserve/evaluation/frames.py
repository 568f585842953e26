"""How one question's T frames are ranked, and what chance or even spacing would have given.

Frames with equal logits form a block. Where a figure depends on the order inside a block, it is the
expected value over all orders, or the block is taken whole (average precision); so no figure
depends on where in the video a tied frame lies.

All take logits of float32 (T,) and labels of bool (T,), and raise what `rank_blocks` does.

Shape letters: T frames, P relevant ones (P >= 1 throughout), K frames kept, B blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError


def rank_blocks(
    scores: NDArray[np.float32] | NDArray[np.float64], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count what is taken when items are taken best first, a block of equal scores at a time.

    Returns:
        int64 (B,) items and int64 (B,) relevant items taken after each block, both cumulative.
    """
    if scores.shape != labels.shape or scores.ndim != 1 or not len(scores):
        raise InvalidRequestError(
            "scores and labels must have the same shape (T,), T >= 1, "
            f"got {scores.shape} and {labels.shape}"
        )
    if np.isnan(scores).any():
        raise InvalidRequestError(f"scores must be numbers, {np.isnan(scores).sum()} are NaN")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # Where each run of equal scores ends. Only counts at ends are returned, so how the sort left
    # the items inside a run is never seen.
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    return ends + 1, np.cumsum(labels[order], dtype=np.int64)[ends]


def average_precision(frame_logits: NDArray[np.float32], labels: NDArray[np.bool_]) -> float:
    """Return the mean, over the relevant frames, of the precision at each one's block.

    With n_b frames and r_b relevant frames in the first b blocks,
    AP = sum over b of (r_b - r_(b-1)) / P * r_b / n_b. No interpolation; equal to scikit-learn's
    `average_precision_score`. Constant logits give the base rate P / T.
    """
    taken, relevant = rank_blocks(frame_logits, labels)
    added = np.diff(relevant, prepend=0)  # (B,), r_b - r_(b-1)
    return float((added * relevant / taken).sum() / relevant[-1])


def recall_at_k(
    frame_logits: NDArray[np.float32], labels: NDArray[np.bool_], *, num_selected: int
) -> float:
    """Return the expected share of the relevant frames among the K best.

    Of a block that does not fit whole, each frame is as likely to be kept as the others.
    """
    taken, relevant = rank_blocks(frame_logits, labels)
    # Inside a block the expected number of relevant frames grows by the same amount with each frame
    # taken, which is the straight line between two ends. Past the last end (K > T) it stays at P.
    return float(np.interp(num_selected, [0, *taken], [0, *relevant]) / relevant[-1])


def hit_at_1(frame_logits: NDArray[np.float32], labels: NDArray[np.bool_]) -> float:
    """Return whether the best frame is relevant; of tied best frames, the share that is."""
    taken, relevant = rank_blocks(frame_logits, labels)
    # The first block is all that is tied for best.
    return float(relevant[0] / taken[0])


def uniform_positions(num_frames: int, num_selected: int) -> NDArray[np.int64]:
    """Return floor((i + 1/2) * T / K) for i = 0 .. K-1: the middle of each of K equal stretches.

    All T frames where K >= T.
    """
    if num_selected >= num_frames:
        return np.arange(num_frames)
    # In whole numbers, 2i + 1 over 2K: rounding cannot move a position.
    return (2 * np.arange(num_selected) + 1) * num_frames // (2 * num_selected)


def random_average_precision(num_frames: int, num_relevant: int) -> float:
    """Return the expected average precision of T distinct logits in random order.

    The frame at rank k is relevant with probability P/T, and then each of the k-1 before it with
    probability (P-1)/(T-1). Summing the expected precision at each rank:
    (H + (P-1)/(T-1) * (T - H)) / T with H = 1 + 1/2 + ... + 1/T. It lies above the base rate P/T.
    """
    harmonic = float((1 / np.arange(1, num_frames + 1)).sum())
    # With T = 1 there is no frame before it.
    others = (num_relevant - 1) / (num_frames - 1) if num_frames > 1 else 0.0
    return (harmonic + others * (num_frames - harmonic)) / num_frames


def roc_auc(positive: NDArray[np.float32], negative: NDArray[np.float32]) -> float:
    """Return the chance that a positive item scores above a negative one; a tie counts half.

    Returns:
        The area under the ROC curve, in [0, 1]; NaN where one side is empty.
    """
    if not len(positive) or not len(negative):
        return float("nan")
    ranked = np.sort(negative)
    # On the left of equal logits: strictly below. On the right: below or tied. Half of their sum
    # counts a tie half.
    beaten = np.searchsorted(ranked, positive, side="left")
    beaten_or_tied = np.searchsorted(ranked, positive, side="right")
    return float((beaten + beaten_or_tied).sum() / (2 * len(positive) * len(negative)))
