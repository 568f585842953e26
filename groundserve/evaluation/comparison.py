"""Whether one model is better than another: paired differences on the questions both answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from groundserve.evaluation.report import (
    ScoredQuestion,
    absent_auc_statistic,
    measure_control,
    measure_question,
    require_top_k,
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
    """By the names of `_FLOORS`, of which two need stand-ins, and `absent_auc`; what the questions
    do not give is missing."""


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
    """Compare what two models made of the same records, question by question, with the same seed.

    Raises:
        InvalidRequestError: K < 1, the records or the stand-ins differ, or no question was
            answered by both.
    """
    require_top_k(top_k)
    questions = _pair(new.questions, baseline.questions)
    stand_ins = _pair(new.stand_ins, baseline.stand_ins)
    if not questions:
        raise InvalidRequestError("the two models answered no question in common")

    def compare(kind: str | None) -> ComparedGroup:
        numbers = [n for n, (question, _) in questions.items() if kind in (None, question.type)]
        present = [n for n in numbers if questions[n][0].is_present]
        measured = [_measure(questions[n], stand_ins.get(n), top_k=top_k) for n in present]
        videos = [questions[n][0].video for n in present]
        figures = _compare_measured(measured, videos, seed=seed)
        auc = _compare_auc([questions[n] for n in numbers], seed=seed)
        return ComparedGroup(
            num_present=len(present),
            num_absent=len(numbers) - len(present),
            figures=figures | ({} if auc is None else {"absent_auc": auc}),
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
    pairs = {number: (new[number], baseline[number]) for number in new if number in baseline}
    for number, (a, b) in pairs.items():
        if (a.video, a.type, a.question) != (b.video, b.type, b.question):
            raise InvalidRequestError(
                f"record {number} asks {a.question!r} of {a.video} in one and {b.question!r} of "
                f"{b.video} in the other; score both with the same records and the same seed"
            )
    return pairs


def _measure(pair: _Pair, stand_ins: _Pair | None, *, top_k: int) -> list[dict[str, float]]:
    measured = [measure_question(question, top_k=top_k) for question in pair]
    if stand_ins is None:
        return measured
    controls = map(measure_control, pair, stand_ins)
    return [figures | control for figures, control in zip(measured, controls, strict=True)]


def _compare_measured(
    measured: Sequence[Sequence[dict[str, float]]],
    videos: Sequence[str],
    *,
    seed: int,
) -> dict[str, ComparedFigure]:
    figures = {}
    for name, floor in _FLOORS.items():
        # Of one video nothing is borrowed: either all questions have stand-ins or none.
        if not measured or name not in measured[0][0]:
            continue
        new, baseline = ([pair[side][name] for pair in measured] for side in (0, 1))
        difference = bootstrap_difference(new, baseline, videos, seed=seed)
        figures[name] = ComparedFigure(
            new=bootstrap_mean(new, videos, seed=seed),
            baseline=bootstrap_mean(baseline, videos, seed=seed),
            difference=difference,
            floor=None if floor is None else float(np.mean([own[floor] for own, _ in measured])),
            verdict=None if name == SHUFFLED_AP else _judge(difference),
        )
    return figures


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
