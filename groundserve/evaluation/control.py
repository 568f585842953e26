"""The shuffled-question control: the same labels, scored with a question about another video.

What a model gains over it is what it takes from the question; what it keeps (frames with anything
on them, the middle of the video) it would give to any question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.bootstrap import AsDict, Estimate, bootstrap_difference, bootstrap_mean
from groundserve.evaluation.frames import average_precision
from groundserve.evaluation.report import ScoredQuestion


@dataclass(frozen=True, kw_only=True)
class ControlFigures(AsDict):
    """What is left of the average precision, for one type of question or all."""

    shuffled_ap: Estimate
    """With another video's questions."""
    ap_over_shuffled: Estimate
    """Own minus shuffled average precision on the same labels, paired."""


@dataclass(frozen=True, kw_only=True)
class ControlReport(AsDict):
    """The control over all present questions and by the type of the question that was replaced."""

    seed: int
    """The shuffle and the resamples come from it."""
    num_same_text: int
    """Questions whose stand-in reads the same, because the other video had nothing else."""
    overall: ControlFigures
    """All present questions."""
    by_type: Mapping[str, ControlFigures]
    """In alphabetical order."""


def borrow_questions(questions: Mapping[str, Sequence[str]], *, seed: int) -> dict[str, list[str]]:
    """Give every video questions of another one, of whatever type, one for each of its own.

    The videos are put in a random ring and each takes from the next, so none keeps its own
    questions and each lends to one. Of the lender's questions one that reads differently is
    drawn, if there is one.
    """
    if len(questions) < 2:
        return {}
    # A ring: a free shuffle would leave some videos their own questions.
    rng = np.random.default_rng(seed)
    ring = [list(questions)[place] for place in rng.permutation(len(questions))]
    borrowed: dict[str, list[str]] = {}
    for video, lender in zip(ring, [*ring[1:], ring[0]], strict=True):
        borrowed[video] = []
        for own in questions[video]:
            # Videos of one kind share phrases ("What happens in this video?"). A stand-in that
            # reads the same would leave the score as it is, so it is the last resort; the report
            # counts those.
            others = [text for text in questions[lender] if text != own] or [own]
            borrowed[video].append(others[rng.integers(len(others))])
    return borrowed


def make_control_report(
    own: Sequence[ScoredQuestion], shuffled: Sequence[ScoredQuestion], *, seed: int = 0
) -> ControlReport:
    """Compare present questions with their stand-ins.

    Raises:
        InvalidRequestError: No questions, or the two do not belong together.
    """
    if not own or len(own) != len(shuffled):
        raise InvalidRequestError(
            f"every question needs one stand-in, got {len(own)} and {len(shuffled)}"
        )
    if any(a.video != b.video or a.type != b.type for a, b in zip(own, shuffled, strict=True)):
        raise InvalidRequestError("a stand-in must have the video and type of its question")
    pairs = list(zip(own, shuffled, strict=True))
    return ControlReport(
        seed=seed,
        num_same_text=sum(a.question == b.question for a, b in pairs),
        overall=_figures(pairs, seed=seed),
        by_type={
            name: _figures([pair for pair in pairs if pair[0].type == name], seed=seed)
            for name in sorted({question.type for question in own})
        },
    )


def _figures(
    pairs: Sequence[tuple[ScoredQuestion, ScoredQuestion]], *, seed: int
) -> ControlFigures:
    videos = [own.video for own, _ in pairs]
    # The labels are the question's own on both sides: what changes is only the ranking.
    own_ap = [average_precision(own.frame_logits, own.is_relevant) for own, _ in pairs]
    shuffled_ap = [average_precision(other.frame_logits, own.is_relevant) for own, other in pairs]
    # The same seed draws the same videos for both, so the two estimates can be set side by side.
    return ControlFigures(
        shuffled_ap=bootstrap_mean(shuffled_ap, videos, seed=seed),
        ap_over_shuffled=bootstrap_difference(own_ap, shuffled_ap, videos, seed=seed),
    )
