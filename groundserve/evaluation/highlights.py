"""Highlights told in text, scored as QVHighlights scores clips.

Shape letters: C clips of two seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.bootstrap import AsDict, Estimate, bootstrap_mean
from groundserve.evaluation.qvhighlights import highlight_figures
from groundserve.evaluation.qvhighlights_files import CLIP_SECONDS, GroundTruth, QueryId


@dataclass(frozen=True, kw_only=True)
class HighlightReport(AsDict):
    """Figures over all answered queries."""

    seed: int
    num_unread: int
    """Answers that tell no times with scores that can be read: all their clips score 0."""
    num_unanswered: int
    """Queries of the ground truth without an answer, which do not count."""
    num_strangers: int
    """Answers to queries that the ground truth lacks, which do not count."""
    figures: Mapping[str, Estimate]
    """`highlight_map_*` and `highlight_hit_at_1_*` of each of `SALIENCY_LEVELS`: shares."""


def clip_scores(
    told: Iterable[tuple[float, float]], duration_seconds: float
) -> NDArray[np.float64]:
    """Return the score of each clip: the mean of those told in it, 0 where none is.

    A time belongs to the clip that ends with it or in which the second before it lies; one behind
    the end of the video to none. The last second of a video of an odd length is in no clip, where
    the reference stops.

    Returns:
        float64 (C,); of a video that is shorter than a clip (1,).

    Source: gyxxyg/VTG-LLM ce13f3e, `utils/format_vhd.py`.
    """
    num_clips = max(1, int(duration_seconds / CLIP_SECONDS))
    clips: list[list[float]] = [[] for _ in range(num_clips)]
    for seconds, score in told:
        clip = max(0, int((seconds - 1) / CLIP_SECONDS)) if seconds <= duration_seconds else -1
        if 0 <= clip < num_clips:
            clips[clip].append(score)
    return np.array([sum(scores) / max(len(scores), 1) for scores in clips], np.float64)


def make_highlight_report(
    answers: Mapping[QueryId, NDArray[np.float64]],
    truths: Mapping[QueryId, GroundTruth],
    *,
    num_unread: int = 0,
    seed: int = 0,
) -> HighlightReport:
    """Score the clips of every query that has both an answer and ratings, and average over them.

    Args:
        answers: By query float64 (C,), the score of each clip.
        truths: By query; each with ratings.
        num_unread: See `HighlightReport`.
        seed: Of the resamples over videos.

    Raises:
        InvalidRequestError: There is no such query, or one without ratings.
    """
    both = [query for query in truths if query in answers]
    if not both:
        raise InvalidRequestError(
            "no answer is to a query of the ground truth; do the two belong together?"
        )
    measured = [highlight_figures(answers[query], ratings_of(query, truths)) for query in both]
    videos = [truths[query].video for query in both]
    return HighlightReport(
        seed=seed,
        num_unread=num_unread,
        num_unanswered=len(truths) - len(both),
        num_strangers=len(answers) - len(both),
        figures={
            name: bootstrap_mean([one[name] for one in measured], videos, seed=seed)
            for name in measured[0]
        },
    )


def ratings_of(query: QueryId, truths: Mapping[QueryId, GroundTruth]) -> NDArray[np.int64]:
    """Return int64 (C, 3), what annotators gave each clip."""
    ratings = truths[query].saliency
    if ratings is None:
        raise InvalidRequestError(
            f"qid {query} of the ground truth has no saliency_scores, by which highlights are "
            "measured"
        )
    return ratings
