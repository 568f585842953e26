"""Every figure of a scored set of questions, over all and by type, and the shuffled control.

The control has the same labels, scored with a question about another video. What a model gains over
it is what it takes from the question; what it keeps (frames with anything on them, the middle of
the video) it would give to any question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.bootstrap import (
    AsDict,
    Estimate,
    bootstrap,
    bootstrap_means,
)
from groundserve.evaluation.frames import (
    average_precision,
    hit_at_1,
    random_average_precision,
    recall_at_k,
    roc_auc,
    uniform_positions,
)
from groundserve.evaluation.spans import top_span_iou


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredQuestion:
    """One question about one video of T sampled frames, with its answer and its scores."""

    video: str
    """The video's name in the records; intervals are over videos."""
    type: str
    """Kind of question; figures are given for each."""
    question: str
    labels: NDArray[np.float32] | NDArray[np.bool_]
    """(T,), 1 or true where the frame is relevant; nowhere if what is asked for is absent."""
    frame_logits: NDArray[np.float32]
    """float32 (T,), finite."""
    pts_seconds: NDArray[np.float64]
    """float64 (T,), when each frame is shown."""
    duration_seconds: float

    def __post_init__(self) -> None:
        for name in ("labels", "frame_logits", "pts_seconds"):
            value = getattr(self, name)
            if not isinstance(value, np.ndarray):
                raise InvalidRequestError(
                    f"{name} must be a NumPy array, got a {type(value).__name__}"
                )
        shapes = {self.labels.shape, self.frame_logits.shape, self.pts_seconds.shape}
        if len(shapes) > 1 or self.labels.ndim != 1 or not len(self.labels):
            raise InvalidRequestError(
                "labels, frame_logits and pts_seconds must have the same shape (T,), T >= 1, got "
                f"{self.labels.shape}, {self.frame_logits.shape} and {self.pts_seconds.shape}"
            )
        if not np.isfinite(self.frame_logits).all():
            raise InvalidRequestError(f"frame_logits of {self.video} must be finite")

    @property
    def is_relevant(self) -> NDArray[np.bool_]:
        """Bool (T,), the labels."""
        return self.labels > 0

    @property
    def is_present(self) -> bool:
        """Whether any frame answers the question."""
        return bool(self.is_relevant.any())


@dataclass(frozen=True, kw_only=True)
class GroupReport(AsDict):
    """Figures of one type of question, or of all."""

    num_present: int
    """Questions that some frame answers."""
    num_absent: int
    """Questions about what is not in the video; they enter `absent_auc` only."""
    figures: Mapping[str, Estimate]
    """Means of what `measure_question` gives; empty where no question is present."""
    absent_auc: Estimate | None
    """ROC AUC of present against absent questions by their best frame; None without both."""


@dataclass(frozen=True, kw_only=True)
class Report(AsDict):
    """Figures of a set of questions."""

    top_k: int
    """K of the recall."""
    seed: int
    overall: GroupReport
    by_type: Mapping[str, GroupReport]
    """In alphabetical order."""


def make_report(questions: Sequence[ScoredQuestion], *, top_k: int, seed: int = 0) -> Report:
    """Measure every question, and estimate each figure over all and by type.

    Raises:
        InvalidRequestError: No questions, or K < 1.
    """
    if not questions:
        raise InvalidRequestError("cannot report on no questions")
    require_top_k(top_k)

    def report(group: Sequence[ScoredQuestion]) -> GroupReport:
        present = [question for question in group if question.is_present]
        videos = [question.video for question in present]
        measured = [measure_question(question, top_k=top_k) for question in present]
        auc = absent_auc_statistic(group)
        return GroupReport(
            num_present=len(present),
            num_absent=len(group) - len(present),
            figures=bootstrap_means(measured, videos, seed=seed),
            absent_auc=auc and bootstrap(auc, [question.video for question in group], seed=seed),
        )

    types = sorted({question.type for question in questions})
    return Report(
        top_k=top_k,
        seed=seed,
        overall=report(questions),
        by_type={name: report([one for one in questions if one.type == name]) for name in types},
    )


def require_top_k(top_k: int) -> None:
    """Refuse a K below 1."""
    if top_k < 1:
        raise InvalidRequestError(f"top_k must be >= 1, got {top_k}")


def measure_question(question: ScoredQuestion, *, top_k: int) -> dict[str, float]:
    """Return every figure of one present question by name, as docs/evaluate.md defines them."""
    logits, labels = question.frame_logits, question.is_relevant
    num_frames, num_relevant = len(labels), int(labels.sum())
    recall = recall_at_k(logits, labels, num_selected=top_k)
    uniform = float(labels[uniform_positions(num_frames, top_k)].sum() / num_relevant)
    iou = top_span_iou(
        logits, labels, question.pts_seconds, duration_seconds=question.duration_seconds
    )
    return {
        "base_rate": float(labels.mean()),
        "frame_ap": average_precision(logits, labels),
        "random_ap": random_average_precision(num_frames, num_relevant),
        "recall_at_k": recall,
        "possible_recall": min(top_k, num_relevant) / num_relevant,
        "uniform_recall": uniform,
        "random_recall": min(top_k, num_frames) / num_frames,
        "recall_over_uniform": recall - uniform,
        "hit_at_1": hit_at_1(logits, labels),
        "uniform_hit_at_1": float(labels[num_frames // 2]),
        "r1_at_03": float(iou >= 0.3),
        "r1_at_05": float(iou >= 0.5),
        "r1_at_07": float(iou >= 0.7),
        "miou": iou,
    }


def absent_auc_statistic(
    questions: Sequence[ScoredQuestion],
) -> Callable[[NDArray[np.int64]], float] | None:
    """Return what `bootstrap` takes to tell present from absent questions by their best frame.

    Returns:
        From int64 (n,), how often each question counts, to the ROC AUC; None where all questions
        are present or all are absent.
    """
    is_present = np.array([question.is_present for question in questions])
    if is_present.all() or not is_present.any():
        return None
    # By logit: the sigmoid would merge the largest.
    best = np.array([question.frame_logits.max() for question in questions], np.float32)
    return lambda counts: roc_auc(
        np.repeat(best[is_present], counts[is_present]),
        np.repeat(best[~is_present], counts[~is_present]),
    )


def measure_control(own: ScoredQuestion, stand_in: ScoredQuestion) -> dict[str, float]:
    """Return what is left of a present question's average precision, by field of ControlFigures."""
    # The labels are the question's own on both sides: what changes is only the ranking.
    own_ap, shuffled_ap = (
        average_precision(one.frame_logits, own.is_relevant) for one in (own, stand_in)
    )
    return {"shuffled_ap": shuffled_ap, "ap_over_shuffled": own_ap - shuffled_ap}


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
    by_type: Mapping[str, ControlFigures]
    """In alphabetical order."""


def borrow_questions(questions: Mapping[str, Sequence[str]], *, seed: int) -> dict[str, list[str]]:
    """Give every video questions of another one, of whatever type, one for each of its own.

    The videos are put in a random ring and each takes from the next, so none keeps its own
    questions and each lends to one. Of the lender's questions one that reads differently is
    drawn, if there is one: a stand-in that reads the same would leave the score as it is.
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
    pairs = list(zip(own, shuffled, strict=True))
    if any(a.video != b.video or a.type != b.type for a, b in pairs):
        raise InvalidRequestError("a stand-in must have the video and type of its question")

    def figures(kind: str | None) -> ControlFigures:
        group = [(a, b) for a, b in pairs if kind in (None, a.type)]
        measured = [measure_control(a, b) for a, b in group]
        return ControlFigures(**bootstrap_means(measured, [a.video for a, _ in group], seed=seed))

    return ControlReport(
        seed=seed,
        num_same_text=sum(a.question == b.question for a, b in pairs),
        overall=figures(None),
        by_type={kind: figures(kind) for kind in sorted({question.type for question in own})},
    )
