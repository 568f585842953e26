"""SODA_c: how well the story that captions tell matches the true one, in time, words and order.

Shape letters: M events of a video's annotation, N of its answer.

Source: fujiso/SODA, as huangb23/VTimeLLM c34ae56 has it in `vtimellm/eval/dvc_eval/SODA/soda.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from groundserve.evaluation.activitynet.events import Caption, window_ious
from groundserve.evaluation.activitynet.language import Language


def soda_c(
    told: Sequence[Caption],
    true: Sequence[Caption],
    words: Mapping[str, str],
    language: Language,
    *,
    sorts_events: bool = True,
) -> float:
    """Return SODA_c of one video: F of its events, matched in order by time and words.

    Args:
        told: N; 0 where there are none.
        true: M >= 1.
        words: Of `Language.tokenize`.
        language: For METEOR.
        sorts_events: Whether both sides are taken by their start, else as they come.
    """
    if not told:
        return 0.0
    if sorts_events:
        told, true = (sorted(side, key=lambda one: one.window[0]) for side in (told, true))
    # The reference takes what was told for METEOR's reference and the truth for the hypothesis.
    pairs = [(words[one.sentence], words[other.sentence]) for one in true for other in told]
    meteor = np.array(language.meteor(pairs)[1]).reshape(len(true), len(told))
    best = match_in_order(window_ious(true, told) * meteor)
    precision, recall = best / len(told), best / len(true)
    return f1(precision, recall)


def match_in_order(scores: NDArray[np.float64]) -> float:
    """Return the largest sum of scores that matches each row and column once, none out of order."""
    # [i, j]: of the first i rows and j columns
    best = np.zeros((scores.shape[0] + 1, scores.shape[1] + 1))
    for i, row in enumerate(scores):
        for j, score in enumerate(row):
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + score)
    return float(best[-1, -1])


def f1(precision: float, recall: float) -> float:
    """Return the harmonic mean; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
