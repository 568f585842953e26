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
from groundserve.evaluation.bootstrap import AsDict, Estimate, bootstrap_difference, bootstrap_mean
from groundserve.evaluation.qa.arms import Arm, arms_of
from groundserve.evaluation.qa.question import BENCHMARKS, Layout, Question
from groundserve.evaluation.qa.replies import first_letter, is_refusal, score_reply
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
    """Measure answers.

    Args:
        questions: Of the set, at least one.
        answers: To any of them, each question at most once an arm.
        arms: Of the run.
        prices: Of tokens; None: no cost.
        seed: Of the intervals.
    """
    by_key = {question.key: question for question in questions}
    by_arm: dict[Arm, dict[str, Answer]] = {}
    for answer in answers:
        by_arm.setdefault(answer.arm, {})[answer.key] = answer
    num_asked = Counter(arm for question in questions for arm in arms_of(question, arms))
    arms = [arm for arm in ARMS if arm in by_arm]
    scores = {arm: _scores(by_key, by_arm[arm]) for arm in arms}
    reports = {
        arm: _arm_report(
            by_key, by_arm[arm], scores[arm], num_asked=num_asked[arm], prices=prices, seed=seed
        )
        for arm in arms
    }
    differences: dict[Arm, Estimate] = {}
    by_group: dict[Arm, dict[str, Estimate]] = {}
    for arm in arms:
        shared = [key for key in scores[arm] if key in scores.get(BASE_ARM, {})]
        if arm == BASE_ARM or not shared:
            continue
        pair = scores[arm], scores[BASE_ARM]
        differences[arm] = _difference(by_key, shared, pair, seed=seed)
        by_group[arm] = {
            group: _difference(by_key, keys, pair, seed=seed)
            for group, keys in _grouped(by_key, shared).items()
        }
    counts = [question.num_choices for question in questions]
    return QaReport(
        num_questions=len(questions),
        num_left=num_asked.total() - sum(map(len, by_arm.values())),
        chance=None if None in counts else float(np.mean([1 / count for count in counts if count])),
        arms=reports,
        differences=differences,
        differences_by_group=by_group,
    )


def _scores(by_key: Mapping[str, Question], answers: Mapping[str, Answer]) -> dict[str, float]:
    # In the order of the set, whatever order the answers came in.
    return {
        key: score_reply(
            question, answers[key].reply.text, is_refused=answers[key].reply.is_refused
        )
        for key, question in by_key.items()
        if key in answers
    }


def _arm_report(
    by_key: Mapping[str, Question],
    answers: Mapping[str, Answer],
    scores: Mapping[str, float],
    *,
    num_asked: int,
    prices: Prices | None,
    seed: int,
) -> ArmReport:
    replies = {key: answer.reply for key, answer in answers.items()}
    refused = {key for key, it in replies.items() if it.is_refused or is_refusal(it.text)}
    without_letter = {
        key
        for key, it in replies.items()
        if key not in refused and first_letter(it.text, by_key[key].layout) is None
    }
    usages = [it.usage for it in replies.values()]
    known = [usage for usage in usages if usage is not None]
    prompt = completion = cost = None
    if len(known) == len(usages):
        prompt = sum(usage.prompt_tokens for usage in known)
        completion = sum(usage.completion_tokens for usage in known)
        if prices is not None:
            cost = prices.cost(prompt_tokens=prompt, completion_tokens=completion)
    return ArmReport(
        accuracy=_mean(by_key, list(scores), scores, seed=seed),
        by_group={
            group: _mean(by_key, keys, scores, seed=seed)
            for group, keys in _grouped(by_key, scores).items()
        },
        num_unanswered=num_asked - len(answers),
        num_refused=len(refused),
        num_without_letter=len(without_letter),
        num_frames=float(np.mean([len(answer.frame_indices) for answer in answers.values()])),
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=cost,
        retries=dict(Counter(kind for it in replies.values() for kind in it.retries)),
    )


def _grouped(by_key: Mapping[str, Question], keys: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key in keys:
        group = by_key[key].group
        if group is not None:
            groups.setdefault(group, []).append(key)
    return groups


def _mean(
    by_key: Mapping[str, Question],
    keys: Sequence[str],
    scores: Mapping[str, float],
    *,
    seed: int,
) -> Estimate:
    videos = [by_key[key].video for key in keys]
    return bootstrap_mean([scores[key] for key in keys], videos, seed=seed)


def _difference(
    by_key: Mapping[str, Question],
    keys: Sequence[str],
    pair: tuple[Mapping[str, float], Mapping[str, float]],
    *,
    seed: int,
) -> Estimate:
    videos = [by_key[key].video for key in keys]
    first, second = ([scores[key] for key in keys] for scores in pair)
    return bootstrap_difference(first, second, videos, seed=seed)


_ORDER: tuple[Layout, ...] = ("longvideobench", "mlvu", "videomme", "cgbench")


@dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """A run and its figures."""

    parts: dict[str, Any]
    report: QaReport


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
    ordered = sorted(runs, key=lambda run: _ORDER.index(run.parts["layout"]))
    cells: dict[tuple[str, int, Arm], dict[str, float]] = {}
    columns: dict[str, None] = {}
    for run in ordered:
        for arm in ARMS:
            found = columns_of(run, arm)
            columns |= dict.fromkeys(found)
            row = (run.parts["model"], run.parts["top_k"], arm)
            for name, value in found.items():
                if name in cells.setdefault(row, {}):
                    raise InvalidRequestError(
                        f"two runs have {name} of {row[0]} from {row[1]} {arm} frames; leave one "
                        "out, or give the sets names of their own (--set-name)"
                    )
                cells[row][name] = value
    rows = [
        PaperRow(
            model=model,
            arm=arm,
            top_k=top_k,
            cells=found,
            average=sum(found.values()) / len(columns) if len(found) == len(columns) else None,
        )
        for (model, top_k, arm), found in sorted(cells.items(), key=_row_place)
    ]
    return PaperTable(columns=tuple(columns), rows=tuple(rows))


def columns_of(run: MeasuredRun, arm: Arm) -> dict[str, float]:
    """Return an arm's accuracies by column of the paper; none where it has no answer."""
    report = run.report.arms.get(arm)
    if report is None:
        return {}
    name = run.parts["name"]
    groups = BENCHMARKS[run.parts["layout"]].groups
    if not groups:
        return {name: report.accuracy.value}
    return {
        f"{name} {group}": report.by_group[group].value
        for group in groups
        if group in report.by_group
    }


def _row_place(item: tuple[tuple[str, int, Arm], Any]) -> tuple[str, int, int]:
    (model, top_k, arm), _ = item
    return model, top_k, ARMS.index(arm)
