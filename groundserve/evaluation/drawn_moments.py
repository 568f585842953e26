"""How well a model tells moments of drawn videos, and how well one would without looking.

Floors say what is reached without the video or the question: by spans that are drawn or the most
frequent in training, and by the same model's answers to the same questions about another video, or
to other questions about the same video.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from groundserve.evaluation.bootstrap import AsDict, Estimate, bootstrap_means
from groundserve.evaluation.spans import Window, span_iou

IOU_THRESHOLDS = (0.3, 0.5, 0.7)
NUM_RANDOM_SPANS = 100
"""Drawn for each question; what counts is their mean."""

Figures = Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class AskedMoment:
    """A question about a drawn video, and what the model said; None where it told no times."""

    video: str
    type: str
    duration_seconds: float
    window: Window
    """The moment that answers it, in seconds."""
    told: Window | None
    of_other_video: Window | None
    """What it said when it saw another video."""
    of_other_question: Window | None
    """What it said of this video to a question about another one."""


@dataclass(frozen=True, kw_only=True)
class DrawnMomentsReport(AsDict):
    """Figures `R1@0.3`, `R1@0.5`, `R1@0.7` and `mIoU`, shares of 1, with their intervals."""

    num_questions: int
    num_unread: int
    """Answers without times that can be read; each counts as a miss."""
    all: Mapping[str, float]
    by_type: Mapping[str, Mapping[str, float]]
    floors: Mapping[str, Mapping[str, float]]
    """`random_span`, `frequent_span`, `other_video` and `shuffled_questions`, over all types."""
    estimates: Mapping[str, Figures]
    """The same under `all`, each type, and each floor."""


def make_drawn_report(
    asked: Sequence[AskedMoment], training_windows: Sequence[Window], *, seed: int
) -> DrawnMomentsReport:
    """Measure all answers, and what spans of the training's windows would reach in their place."""
    rng = np.random.default_rng(seed)
    lengths = np.array([end - start for start, end in training_windows])
    frequent = Counter(training_windows).most_common(1)[0][0]

    def random_spans(one: AskedMoment) -> list[Window]:
        drawn = rng.choice(lengths, size=NUM_RANDOM_SPANS)
        starts = rng.uniform(0, np.maximum(one.duration_seconds - drawn, 0))
        return list(zip(starts, starts + drawn, strict=True))

    groups = {"all": [_measure(one, [one.told]) for one in asked]}
    types = list(dict.fromkeys(one.type for one in asked))
    floors = {
        "random_span": [_measure(one, random_spans(one)) for one in asked],
        "frequent_span": [_measure(one, [frequent]) for one in asked],
        "other_video": [_measure(one, [one.of_other_video]) for one in asked],
        "shuffled_questions": [_measure(one, [one.of_other_question]) for one in asked],
    }
    videos = [one.video for one in asked]
    estimates = {
        name: bootstrap_means(measured, videos, seed=seed)
        for name, measured in {**groups, **floors}.items()
    }
    for kind in types:
        members = [place for place, one in enumerate(asked) if one.type == kind]
        of_type = [groups["all"][place] for place in members]
        estimates[kind] = bootstrap_means(of_type, [videos[place] for place in members], seed=seed)
    values = {
        name: {figure: estimate.value for figure, estimate in figures.items()}
        for name, figures in estimates.items()
    }
    return DrawnMomentsReport(
        num_questions=len(asked),
        num_unread=sum(one.told is None for one in asked),
        all=values["all"],
        by_type={kind: values[kind] for kind in types},
        floors={name: values[name] for name in floors},
        estimates=estimates,
    )


def _measure(one: AskedMoment, told: Sequence[Window | None]) -> dict[str, float]:
    """Return the figures of one question, of several spans their mean."""
    ious = np.array([0.0 if span is None else span_iou(span, one.window) for span in told])
    figures = {f"R1@{at}": float((ious >= at).mean()) for at in IOU_THRESHOLDS}
    return {**figures, "mIoU": float(ious.mean())}
