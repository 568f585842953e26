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

    Args:
        frame_logits: float32 (T,), before the sigmoid, finite.
        frame_indices: int64 (T,), source ordinals, increasing.
        num_selected: K >= 1.
        selector: One of the above.

    Returns:
        int64 (K',), part of `frame_indices`, increasing.

    Raises:
        InvalidRequestError: K < 1, the shapes differ, or the selector is unknown.

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
    if selector not in _SELECTORS:
        raise InvalidRequestError(
            f"selector must be one of {', '.join(_SELECTORS)}, got {selector!r}"
        )
    if num_selected >= len(frame_logits):
        return frame_indices.copy()
    positions = _SELECTORS[selector](frame_logits, num_selected)
    return frame_indices[np.sort(positions)]


def best_first(frame_logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return positions (T,) by descending logit; of equal logits the earlier comes first."""
    return np.argsort(-frame_logits, kind="stable")


def sigmoid(frame_logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return scores in [0, 1], float32, without overflow at either end."""
    tail = np.exp(-np.abs(frame_logits))
    positive = frame_logits >= 0
    return np.where(positive, 1 / (1 + tail), tail / (1 + tail)).astype(np.float32)


def _topk(frame_logits: _Logits, num_selected: int) -> _Positions:
    return best_first(frame_logits)[:num_selected]


def _spread(frame_logits: _Logits, num_selected: int) -> _Positions:
    edges = np.arange(num_selected + 1) * len(frame_logits) // num_selected
    return np.array([a + np.argmax(frame_logits[a:b]) for a, b in itertools.pairwise(edges)])


def _min_gap(frame_logits: _Logits, num_selected: int) -> _Positions:
    ranked = best_first(frame_logits)
    places = np.arange(len(frame_logits))
    nearest_chosen = np.full(len(frame_logits), len(frame_logits))
    gap = len(frame_logits) // num_selected
    chosen: list[int] = []
    while len(chosen) < num_selected:
        for position in ranked:
            if len(chosen) < num_selected and nearest_chosen[position] >= gap:
                chosen.append(position)
                nearest_chosen = np.minimum(nearest_chosen, np.abs(places - position))
        gap = max(1, gap // 2)
    return np.array(chosen)


def _inverse_transform(frame_logits: _Logits, num_selected: int) -> _Positions:
    mass = np.cumsum(sigmoid(frame_logits).astype(np.float64))
    if mass[-1] <= 0:
        mass = np.arange(1, len(frame_logits) + 1, dtype=np.float64)
    quantiles = (np.arange(num_selected) + 0.5) / num_selected
    drawn = np.searchsorted(mass / mass[-1], quantiles).clip(max=len(frame_logits) - 1)
    chosen = list(dict.fromkeys(drawn.tolist()))
    # A frame drawn twice frees a place; the best frame not yet drawn takes it.
    rest = [int(p) for p in best_first(frame_logits) if p not in set(chosen)]
    return np.array(chosen + rest[: num_selected - len(chosen)])


_SELECTORS: dict[Selector, Callable[[_Logits, int], _Positions]] = {
    "topk": _topk,
    "spread": _spread,
    "min_gap": _min_gap,
    "inverse_transform": _inverse_transform,
}
