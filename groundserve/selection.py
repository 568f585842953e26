"""Which of the scored frames are kept: top-K, and three selectors that spread the choice.

Shape letters: T scored frames, K frames asked for, K' = min(K, T) frames kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.options import Selector

_Positions = NDArray[np.int64]
_Logits = NDArray[np.float32]


def select_frames(
    frame_logits: NDArray[np.float32],
    frame_indices: NDArray[np.int64],
    *,
    num_selected: int,
    selector: Selector = "topk",
) -> NDArray[np.int64]:
    """Keep K' = min(K, T) frames, in time order.

    Ranking is by logit, never by score: the sigmoid merges many logits. Of equal logits the
    earlier frame wins. The selectors differ in how they trade relevance for coverage:

    - "topk": the K best frames (the reference's only rule).
    - "spread": the best frame of each of K equal stretches of the sampled frames.
    - "min_gap": greedily the best frame at least T // K positions from every frame chosen so
      far; the distance is halved while that leaves fewer than K.
    - "inverse_transform": K evenly spaced quantiles of the scores taken as a distribution over
      time, so that frames crowd where scores are high.

    All sort the frames, which takes O(T log T) time, except "spread", which takes O(T). "min_gap"
    then goes over them once for each halving: O(T log(T / K)) more.

    Args:
        frame_logits: float32 (T,), before the sigmoid, finite.
        frame_indices: int64 (T,), source ordinals, increasing.
        num_selected: K >= 1.
        selector: One of the above.

    Returns:
        int64 (K',), part of `frame_indices`, increasing.

    Raises:
        InvalidRequestError: K < 1, the shapes differ, a logit is not finite, or the selector is
            unknown.

    Source: "topk": NVlabs/VideoITG fab8b54, `infer.py::topk_selection`, where ties fall either
    way. "inverse_transform" follows the idea of BOLT (arXiv 2503.21483).
    """
    if num_selected < 1:
        raise InvalidRequestError(f"num_selected must be >= 1, got {num_selected}")
    if frame_logits.shape != frame_indices.shape or frame_logits.ndim != 1:
        raise InvalidRequestError(
            "frame_logits and frame_indices must have the same shape (T,), "
            f"got {frame_logits.shape} and {frame_indices.shape}"
        )
    # NaN has no place in an order, and would be sorted to the end without a word.
    if not np.isfinite(frame_logits).all():
        raise InvalidRequestError("frame_logits must be finite")
    if selector not in _SELECTORS:
        raise InvalidRequestError(
            f"selector must be one of {', '.join(_SELECTORS)}, got {selector!r}"
        )
    # Every selector keeps all then; below, K < T, so no stretch or gap is empty.
    if num_selected >= len(frame_logits):
        return frame_indices.copy()
    positions = _SELECTORS[selector](frame_logits, num_selected)
    return frame_indices[np.sort(positions)]


def best_first(frame_logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return positions (T,) by descending logit; of equal logits the earlier comes first."""
    return np.argsort(-frame_logits, kind="stable")


def sigmoid(frame_logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return scores in [0, 1], float32, without overflow at either end."""
    # exp of what is <= 0 only: at most 1, never infinite.
    tail = np.exp(-np.abs(frame_logits))
    positive = frame_logits >= 0
    return np.where(positive, 1 / (1 + tail), tail / (1 + tail)).astype(np.float32)


def _topk(frame_logits: _Logits, num_selected: int) -> _Positions:
    return best_first(frame_logits)[:num_selected]


def _spread(frame_logits: _Logits, num_selected: int) -> _Positions:
    # Whole numbers: stretches differ in length by one frame at most.
    edges = np.arange(num_selected + 1) * len(frame_logits) // num_selected
    return np.array([a + np.argmax(frame_logits[a:b]) for a, b in itertools.pairwise(edges)])


def _min_gap(frame_logits: _Logits, num_selected: int) -> _Positions:
    ranked = best_first(frame_logits)
    is_chosen = np.zeros(len(frame_logits), np.bool_)
    num_left = num_selected
    gap = len(frame_logits) // num_selected
    while num_left:
        # Chosen frames are at least `gap` apart, so all their neighbourhoods together are O(T).
        is_near = np.zeros(len(frame_logits), np.bool_)
        for position in np.flatnonzero(is_chosen).tolist():
            is_near[max(0, position - gap + 1) : position + gap] = True
        # Best first; those near a chosen frame from the start are left out of the loop, for time.
        for position in ranked[~is_near[ranked]].tolist():
            if num_left and not is_near[position]:
                is_chosen[position] = True
                is_near[max(0, position - gap + 1) : position + gap] = True
                num_left -= 1
        # At a gap of 1 a frame is near itself only, so the loop ends.
        gap = max(1, gap // 2)
    return np.flatnonzero(is_chosen)


def _inverse_transform(frame_logits: _Logits, num_selected: int) -> _Positions:
    # float64: in float32 small scores behind many large ones would add nothing.
    mass = np.cumsum(sigmoid(frame_logits).astype(np.float64))
    # Scores so small that all are 0 in float32: evenly spaced then.
    if mass[-1] <= 0:
        mass = np.arange(1, len(frame_logits) + 1, dtype=np.float64)
    # The middles of K equal parts.
    quantiles = (np.arange(num_selected) + 0.5) / num_selected
    drawn = np.searchsorted(mass / mass[-1], quantiles).clip(max=len(frame_logits) - 1)
    is_chosen = np.zeros(len(frame_logits), np.bool_)
    is_chosen[drawn] = True
    # A frame drawn twice frees a place; the best frame not yet drawn takes it.
    ranked = best_first(frame_logits)
    rest = ranked[~is_chosen[ranked]]
    is_chosen[rest[: num_selected - np.count_nonzero(is_chosen)]] = True
    return np.flatnonzero(is_chosen)


_SELECTORS: dict[Selector, Callable[[_Logits, int], _Positions]] = {
    "topk": _topk,
    "spread": _spread,
    "min_gap": _min_gap,
    "inverse_transform": _inverse_transform,
}
