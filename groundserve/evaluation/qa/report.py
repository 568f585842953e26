"""How often each arm is right, by how much, and what the answers took; the paper's table.

Video-MME has a column there for each of its durations, and the average is over columns, as in the
table of VideoITG (arXiv 2507.13353).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.bootstrap import AsDict, Estimate, bootstrap_mean
from groundserve.evaluation.qa.arms import Arm, arms_of
from groundserve.evaluation.qa.question import BENCHMARKS, Layout, Question
from groundserve.evaluation.qa.replies import Reply, first_letter, is_refusal, score_reply
from groundserve.evaluation.qa.run_folder import Answer
from groundserve.evaluation.qa.spending import Prices

BASE_ARM: Arm = "uniform"
"""What every other arm is compared with."""
ARMS: tuple[Arm, ...] = ("none", "uniform", "selected", "oracle")
"""In the order of tables."""


@dataclass(frozen=True, kw_only=True)
class ArmReport(AsDict):
    """Answers from one arm's frames."""

    accuracy: Estimate
    """Share of the answered questions that are right."""
    by_group: dict[str, Estimate]
    """The same of each group of questions; a group without an answer has none."""
    num_unanswered: int
    """Questions of this arm without an answer; they count nowhere."""
    num_refused: int
    """Replies that refuse, by the endpoint's word or their own; wrong."""
    num_without_letter: int
    """Others that name no option; wrong, or what a guess scores (LongVideoBench)."""
    num_frames: float
    """Shown on average."""
    prompt_tokens: int | None
    """Over all answers; None where the endpoint did not say of each."""
    completion_tokens: int | None
    """The same."""
    cost: float | None
    """What these tokens cost; None without them, or without prices."""
    retries: dict[str, int]
    """Tries that came to nothing, of questions that were answered later, by what was wrong."""


@dataclass(frozen=True, kw_only=True)
class QaReport(AsDict):
    """Every figure of a run."""

    num_questions: int
    num_left: int
    """Answers that are missing, over all arms; they count nowhere."""
    chance: float | None
    """What a random option scores: the mean of 1 over the number of options; None where the
    records do not tell that number of every question."""
    arms: dict[Arm, ArmReport]
    """Without those that have no answer."""
    differences: dict[Arm, Estimate]
    """Arm - uniform, over the questions that both answered, with its paired interval."""
    differences_by_group: dict[Arm, dict[str, Estimate]]


def make_qa_report(
    questions: Sequence[Question],
    answers: Iterable[Answer],
    *,
    arms: Sequence[Arm],
    prices: Prices | None = None,
    seed: int = 0,
) -> QaReport:
    """Measure answers to any of the questions, each at most once an arm; `arms` are the run's."""
    by_arm: dict[Arm, dict[str, Answer]] = {}
    for answer in answers:
        by_arm.setdefault(answer.arm, {})[answer.key] = answer
    num_asked = Counter(arm for question in questions for arm in arms_of(question, arms))
    # In the order of the set, whatever order the answers came in.
    scores = {
        arm: {
            question.key: _score(question, by_arm[arm][question.key].reply)
            for question in questions
            if question.key in by_arm[arm]
        }
        for arm in ARMS
        if arm in by_arm
    }
    base = scores.get(BASE_ARM, {})
    gains = {
        arm: {key: score - base[key] for key, score in found.items() if key in base}
        for arm, found in scores.items()
        if arm != BASE_ARM
    }
    differences = {arm: _means(questions, gain, seed=seed) for arm, gain in gains.items() if gain}
    counts = [question.num_choices for question in questions]
    return QaReport(
        num_questions=len(questions),
        num_left=num_asked.total() - sum(map(len, by_arm.values())),
        chance=None if None in counts else float(np.mean([1 / count for count in counts if count])),
        arms={
            arm: _arm_report(
                questions, by_arm[arm], found, num_asked=num_asked[arm], prices=prices, seed=seed
            )
            for arm, found in scores.items()
        },
        differences={arm: overall for arm, (overall, _) in differences.items()},
        differences_by_group={arm: by_group for arm, (_, by_group) in differences.items()},
    )


def _score(question: Question, reply: Reply) -> float:
    return score_reply(question, reply.text, is_refused=reply.is_refused)


def _means(
    questions: Iterable[Question], values: Mapping[str, float], *, seed: int
) -> tuple[Estimate, dict[str, Estimate]]:
    known = [question for question in questions if question.key in values]
    groups = dict.fromkeys(question.group for question in known if question.group is not None)

    def mean(some: Sequence[Question]) -> Estimate:
        videos = [question.video for question in some]
        return bootstrap_mean([values[question.key] for question in some], videos, seed=seed)

    return mean(known), {
        group: mean([question for question in known if question.group == group]) for group in groups
    }


def _arm_report(
    questions: Sequence[Question],
    answers: Mapping[str, Answer],
    scores: Mapping[str, float],
    *,
    num_asked: int,
    prices: Prices | None,
    seed: int,
) -> ArmReport:
    layouts = {question.key: question.layout for question in questions}
    replies = {key: answer.reply for key, answer in answers.items()}
    refused = {key for key, it in replies.items() if it.is_refused or is_refusal(it.text)}
    without_letter = {
        key
        for key, it in replies.items()
        if key not in refused and first_letter(it.text, layouts[key]) is None
    }
    usages = [it.usage for it in replies.values()]
    known = [usage for usage in usages if usage is not None]
    prompt = completion = cost = None
    if len(known) == len(usages):
        prompt = sum(usage.prompt_tokens for usage in known)
        completion = sum(usage.completion_tokens for usage in known)
        if prices is not None:
            cost = prices.cost(prompt_tokens=prompt, completion_tokens=completion)
    accuracy, by_group = _means(questions, scores, seed=seed)
    return ArmReport(
        accuracy=accuracy,
        by_group=by_group,
        num_unanswered=num_asked - len(answers),
        num_refused=len(refused),
        num_without_letter=len(without_letter),
        num_frames=float(np.mean([len(answer.frame_indices) for answer in answers.values()])),
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=cost,
        retries=dict(Counter(kind for it in replies.values() for kind in it.retries)),
    )


_ORDER: tuple[Layout, ...] = ("longvideobench", "mlvu", "videomme", "cgbench")


@dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """A run and its figures."""

    parts: dict[str, Any]
    report: QaReport

    def columns_of(self, arm: Arm) -> dict[str, float]:
        """Return an arm's accuracies by column of the paper; none where it has no answer."""
        report, name = self.report.arms.get(arm), self.parts["name"]
        groups = BENCHMARKS[self.parts["layout"]].groups
        if report is None:
            return {}
        if not groups:
            return {name: report.accuracy.value}
        known = report.by_group
        return {f"{name} {group}": known[group].value for group in groups if group in known}


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One model with one choice of frames."""

    model: str
    arm: Arm
    top_k: int
    """Most frames shown."""
    cells: dict[str, float]
    """Accuracy by column; a column that was not measured is missing."""
    average: float | None
    """Over all columns; None where one is missing."""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """All rows, each with the cells that it has."""

    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]


def make_paper_table(runs: Sequence[MeasuredRun]) -> PaperTable:
    """Join runs of several benchmarks, models and numbers of frames."""
    cells: dict[tuple[str, int, int], dict[str, float]] = {}
    columns: dict[str, None] = {}
    for run in sorted(runs, key=lambda run: _ORDER.index(run.parts["layout"])):
        model, top_k = run.parts["model"], run.parts["top_k"]
        for place, arm in enumerate(ARMS):
            found = run.columns_of(arm)
            columns |= dict.fromkeys(found)
            row = cells.setdefault((model, top_k, place), {})
            for name in found.keys() & row.keys():
                raise InvalidRequestError(
                    f"two runs have {name} of {model} from {top_k} {arm} frames; leave one "
                    "out, or give the sets names of their own (--set-name)"
                )
            row |= found
    rows = [
        PaperRow(
            model=model,
            arm=ARMS[place],
            top_k=top_k,
            cells=found,
            average=sum(found.values()) / len(columns) if len(found) == len(columns) else None,
        )
        for (model, top_k, place), found in sorted(cells.items(), key=lambda item: item[0])
        if found
    ]
    return PaperTable(columns=tuple(columns), rows=tuple(rows))
