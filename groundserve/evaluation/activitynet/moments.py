"""How well the moments that answers tell match those that annotators gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundserve.evaluation.activitynet.annotations import Annotation
from groundserve.evaluation.activitynet.answers import Event, Grounding
from groundserve.evaluation.bootstrap import Estimate, bootstrap_mean

IOU_THRESHOLDS = (0.3, 0.5, 0.7)


@dataclass(frozen=True, kw_only=True)
class GroundingReport:
    """Figures over all questions for a moment."""

    seed: int
    """Of the resamples behind the intervals."""
    num_unread: int
    """Answers that tell no times that can be read; each counts as a miss."""
    num_restated: int
    """Answers whose log states another IoU than the one measured here: it was made with other
    annotations, or another rule."""
    figures: Mapping[str, Estimate]
    """`miou`, and `r1_at_03`, `_05`, `_07`: shares."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "seed": self.seed,
            "num_unread": self.num_unread,
            "num_restated": self.num_restated,
            **{name: estimate.as_dict() for name, estimate in self.figures.items()},
        }


def make_grounding_report(
    groundings: Sequence[Grounding], annotations: Mapping[str, Annotation], *, seed: int = 0
) -> GroundingReport:
    """Measure every answer and average over them.

    Args:
        groundings: At least one; each about an annotated sentence.
        annotations: By video.
        seed: Of the resamples over videos.

    Raises:
        InvalidRequestError: There are no answers.
    """
    ious = [grounding_iou(one.event, annotations[one.video], one.number) for one in groundings]
    values = {"miou": ious}
    for at in IOU_THRESHOLDS:
        values[f"r1_at_0{10 * at:.0f}"] = [float(iou >= at) for iou in ious]
    videos = [one.video for one in groundings]
    return GroundingReport(
        seed=seed,
        num_unread=sum(one.event is None for one in groundings),
        num_restated=sum(
            one.stated_iou not in (None, iou) for one, iou in zip(groundings, ious, strict=True)
        ),
        figures={name: bootstrap_mean(each, videos, seed=seed) for name, each in values.items()},
    )


def grounding_iou(event: Event | None, annotation: Annotation, number: int) -> float:
    """Return the IoU of an answer with the sentence it is about; 0 where it tells no times.

    Args:
        event: What the answer tells.
        annotation: Of its video.
        number: Place of the sentence.
    """
    if event is None:
        return 0.0
    start, end = annotation.windows[number]
    duration = annotation.duration_seconds
    return fraction_iou(
        (event.start_percent / 100, event.end_percent / 100), (start / duration, end / duration)
    )


def fraction_iou(told: tuple[float, float], true: tuple[float, float]) -> float:
    """Return the time that two windows share over the time from the first start to the last end.

    Both are fractions of the duration. The rest is the reference's: what lies between two windows
    that do not meet counts as covered, and the value is rounded to two decimals before it is
    compared with any threshold. Where both are one and the same instant the reference stops; here
    it is 0.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/eval/eval.py::iou`.
    """
    shared = max(0.0, min(told[1], true[1]) - max(told[0], true[0]))
    covered = max(told[1], true[1]) - min(told[0], true[0])
    return round(shared / covered, 2) if covered > 0 else 0.0
