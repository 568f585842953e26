"""Whether one model is better than another: paired differences on the questions both answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.bootstrap import (
    AsDict,
    Estimate,
    bootstrap,
    bootstrap_difference,
    bootstrap_mean,
)
from groundserve.evaluation.frames import average_precision
from groundserve.evaluation.report import (
    ScoredQuestion,
    absent_auc_statistic,
    measure_question,
)
from groundserve.evaluation.scored_records import ScoredRecords

Verdict = Literal["better", "worse", "not told apart"]

SHUFFLED_AP = "shuffled_ap"
"""The one figure of which more is not better: what is left without the question."""
_CHANCE_AUC = 0.5
_FLOORS = {
    "frame_ap": "random_ap",
    SHUFFLED_AP: "random_ap",
    "ap_over_shuffled": None,
    "recall_at_k": "uniform_recall",
    "hit_at_1": "base_rate",
    "r1_at_03": None,
    "r1_at_05": None,
    "r1_at_07": None,
    "miou": None,
}
"""What is compared, and the measure of the same question that takes no model to reach."""

_Pair = tuple[ScoredQuestion, ScoredQuestion]
"""The same question, scored by the new model and by the baseline."""


@dataclass(frozen=True, kw_only=True)
class ComparedFigure(AsDict):
    """One figure of two models on the same questions."""

    new: Estimate
    baseline: Estimate
    """The model it is compared with."""
    difference: Estimate
    """New minus baseline, with the interval of the paired difference."""
    floor: float | None
    """What takes no model to reach on these questions; None where nothing is known of it."""
    verdict: Verdict | None
    """Which side of 0 the whole interval lies on; None of `shuffled_ap`."""


@dataclass(frozen=True, kw_only=True)
class ComparedGroup(AsDict):
    """Figures of one type of question, or of all."""

    num_present: int
    """Paired questions that some frame answers."""
    num_absent: int
    """Paired questions about what is not in the video; they enter `absent_auc` only."""
    figures: Mapping[str, ComparedFigure]
    """By the names of the reports: `frame_ap`, and of present questions that have stand-ins
    `shuffled_ap` and `ap_over_shuffled`; `recall_at_k`, `hit_at_1`, `r1_at_03`, `r1_at_05`,
    `r1_at_07`, `miou`; `absent_auc`. Those that the questions do not give are missing."""


@dataclass(frozen=True, kw_only=True)
class Comparison(AsDict):
    """Two models on the questions that both could be asked."""

    top_k: int
    """K of the recall."""
    seed: int
    num_paired: int
    """Questions that both answered; every figure is made of these alone."""
    num_unpaired: int
    """Questions that were left out for one of the two, and so for both."""
    overall: ComparedGroup
    by_type: Mapping[str, ComparedGroup]
    """In alphabetical order."""


def make_comparison(
    new: ScoredRecords, baseline: ScoredRecords, *, top_k: int, seed: int = 0
) -> Comparison:
    """Compare two models question by question, over all and by type.

    Args:
        new: What the new model made of a set of records.
        baseline: What the other one made of the same set, with the same seed.
        top_k: K >= 1 of the recall.
        seed: Of the resamples; the same videos are drawn for both models.

    Raises:
        InvalidRequestError: K < 1, the records or the stand-ins differ, or no question was
            answered by both.
    """
    if top_k < 1:
        raise InvalidRequestError(f"top_k must be >= 1, got {top_k}")
    questions = _pair(new.questions, baseline.questions)
    stand_ins = _pair(new.stand_ins, baseline.stand_ins)
    if not questions:
        raise InvalidRequestError("the two models answered no question in common")

    def compare(kind: str | None) -> ComparedGroup:
        numbers = [n for n, (question, _) in questions.items() if kind in (None, question.type)]
        return _compare_group(
            [questions[n] for n in numbers],
            [stand_ins.get(n) for n in numbers],
            top_k=top_k,
            seed=seed,
        )

    return Comparison(
        top_k=top_k,
        seed=seed,
        num_paired=len(questions),
        num_unpaired=len(new.questions.keys() ^ baseline.questions.keys()),
        overall=compare(None),
        by_type={
            kind: compare(kind) for kind in sorted({own.type for own, _ in questions.values()})
        },
    )


def _pair(
    new: Mapping[int, ScoredQuestion], baseline: Mapping[int, ScoredQuestion]
) -> dict[int, _Pair]:
    """Return what both hold, by the number of the record."""
    pairs = {number: (new[number], baseline[number]) for number in new if number in baseline}
    for number, (a, b) in pairs.items():
        if (a.video, a.type, a.question) != (b.video, b.type, b.question):
            raise InvalidRequestError(
                f"record {number} asks {a.question!r} of {a.video} in one and {b.question!r} of "
                f"{b.video} in the other; score both with the same records and the same seed"
            )
    return pairs


def _compare_group(
    pairs: Sequence[_Pair], stand_ins: Sequence[_Pair | None], *, top_k: int, seed: int
) -> ComparedGroup:
    present = [
        (pair, stand_in or (None, None))
        for pair, stand_in in zip(pairs, stand_ins, strict=True)
        if pair[0].is_present
    ]
    new, baseline = (
        [_measure(pair[side], stand_in[side], top_k=top_k) for pair, stand_in in present]
        for side in (0, 1)
    )
    videos = [own.video for (own, _), _ in present]
    figures: dict[str, ComparedFigure] = {}
    for name, floor in _FLOORS.items():
        # Of one video nothing is borrowed: either all questions have stand-ins or none.
        if present and name in new[0]:
            of_new, of_baseline = ([one[name] for one in side] for side in (new, baseline))
            difference = bootstrap_difference(of_new, of_baseline, videos, seed=seed)
            figures[name] = ComparedFigure(
                new=bootstrap_mean(of_new, videos, seed=seed),
                baseline=bootstrap_mean(of_baseline, videos, seed=seed),
                difference=difference,
                floor=None if floor is None else float(np.mean([one[floor] for one in new])),
                verdict=None if name == SHUFFLED_AP else _judge(difference),
            )
    if (auc := _compare_auc(pairs, seed=seed)) is not None:
        figures["absent_auc"] = auc
    return ComparedGroup(
        num_present=len(present), num_absent=len(pairs) - len(present), figures=figures
    )


def _measure(
    question: ScoredQuestion, stand_in: ScoredQuestion | None, *, top_k: int
) -> dict[str, float]:
    """Return all figures of a present question by name, with its stand-in's if there is one."""
    measured = asdict(measure_question(question, top_k=top_k))
    if stand_in is not None:
        shuffled = average_precision(stand_in.frame_logits, stand_in.is_relevant)
        measured[SHUFFLED_AP] = shuffled
        measured["ap_over_shuffled"] = measured["frame_ap"] - shuffled
    return measured


def _compare_auc(pairs: Sequence[_Pair], *, seed: int) -> ComparedFigure | None:
    new, baseline = (absent_auc_statistic([pair[side] for pair in pairs]) for side in (0, 1))
    if new is None or baseline is None:
        return None
    videos = [own.video for own, _ in pairs]
    difference = bootstrap(lambda counts: new(counts) - baseline(counts), videos, seed=seed)
    return ComparedFigure(
        new=bootstrap(new, videos, seed=seed),
        baseline=bootstrap(baseline, videos, seed=seed),
        difference=difference,
        floor=_CHANCE_AUC,
        verdict=_judge(difference),
    )


def _judge(difference: Estimate) -> Verdict:
    if difference.low is not None and difference.low > 0:
        return "better"
    if difference.high is not None and difference.high < 0:
        return "worse"
    return "not told apart"
