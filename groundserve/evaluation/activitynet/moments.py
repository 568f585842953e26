"""How well moments that answers tell match those that annotators gave; whose rules say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.activitynet.annotations import Annotation
from groundserve.evaluation.activitynet.answers import Event, Grounding
from groundserve.evaluation.bootstrap import AsDict, Estimate, bootstrap_mean
from groundserve.evaluation.spans import Window

IOU_THRESHOLDS = (0.3, 0.5, 0.7)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One reference's choices; the defaults are those of the benchmark."""

    rounds_iou: bool = False
    """Whether moments are compared in fractions of the duration, and their IoU is rounded to two
    decimals before it is compared; else in seconds and as it is."""
    merges_neighbours: bool = False
    """Whether told events that follow each other and tell the same are joined."""
    straightens: bool = False
    """Whether an event that ends before it starts is turned around."""
    sorts_events: bool = True
    """Whether SODA_c takes events by their start; else as they are told."""
    f1_of_videos: bool = False
    """Whether F1 is the mean over videos of each one's F1, of its precision and recall over all
    thresholds; else, at each threshold, that of the means over videos."""
    counts_unanswered: bool = False
    """Whether annotated videos without an answer count, with 0."""


VTIMELLM = Protocol(rounds_iou=True, merges_neighbours=True)
"""huangb23/VTimeLLM c34ae56, `vtimellm/eval`."""

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "vtimellm": VTIMELLM,
        # gyxxyg/VTG-LLM ce13f3e, `metrics/dvc/eval_dvc.py` and `metrics/tvg/eval_tvg.py`.
        "vtgllm": Protocol(
            straightens=True, sorts_events=False, f1_of_videos=True, counts_unanswered=True
        ),
        # ranjaykrishna/densevid_eval with fujiso/SODA: ActivityNet Captions' own, which VTG-LLM's
        # `metrics/dvc/eval_dvc_anet.py` is as well.
        "activitynet": Protocol(),
    }
)
"""By the name that `--protocol` has for it."""


def get_protocol(name: str) -> Protocol:
    """Return the protocol of this name."""
    if name not in PROTOCOLS:
        raise InvalidRequestError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {name}")
    return PROTOCOLS[name]


@dataclass(frozen=True, kw_only=True)
class GroundingReport(AsDict):
    """Figures over all questions for a moment."""

    seed: int
    num_unread: int
    """Answers that tell no times that can be read; each counts as a miss."""
    num_restated: int
    """Answers whose log states another IoU than the one measured here: it was made with other
    annotations, or another rule."""
    figures: Mapping[str, Estimate]
    """`miou`, and `r1_at_03`, `_05`, `_07`: shares."""


def make_grounding_report(
    groundings: Sequence[Grounding],
    annotations: Mapping[str, Annotation],
    *,
    protocol: Protocol = VTIMELLM,
    seed: int = 0,
) -> GroundingReport:
    """Measure every answer, each about an annotated sentence, and average over them."""
    ious = [
        grounding_iou(one.event, annotations[one.video], one.number, protocol) for one in groundings
    ]
    values = {"miou": ious}
    for at in IOU_THRESHOLDS:
        values[f"r1_at_0{10 * at:.0f}"] = [float(iou >= at) for iou in ious]
    videos = [one.video for one in groundings]
    return GroundingReport(
        seed=seed,
        num_unread=sum(one.event is None for one in groundings),
        num_restated=sum(
            # A log states VTimeLLM's.
            one.stated_iou
            not in (None, grounding_iou(one.event, annotations[one.video], one.number))
            for one in groundings
        ),
        figures={name: bootstrap_mean(each, videos, seed=seed) for name, each in values.items()},
    )


def grounding_iou(
    event: Event | None, annotation: Annotation, number: int, protocol: Protocol = VTIMELLM
) -> float:
    """Return the IoU of an answer with the sentence it is about; 0 where it tells no times."""
    if event is None:
        return 0.0
    start, end = annotation.windows[number]
    duration = annotation.duration_seconds
    if not protocol.rounds_iou:
        return hull_iou(event.window(duration), (start, end))
    # huangb23/VTimeLLM c34ae56, `vtimellm/eval/eval.py::iou`.
    told = event.start_percent / 100, event.end_percent / 100
    return round(hull_iou(told, (start / duration, end / duration)), 2)


def hull_iou(told: Window, true: Window) -> float:
    """Return the time that two windows share over the time from the first start to the last end.

    What lies between two windows that do not meet counts as covered, which leaves them at 0. Where
    both are one and the same instant the references stop; here it is 0.

    Source: gyxxyg/VTG-LLM ce13f3e, `metrics/tvg/eval_tvg.py::iou`.
    """
    shared = max(0.0, min(told[1], true[1]) - max(told[0], true[0]))
    covered = max(told[1], true[1]) - min(told[0], true[0])
    return shared / covered if covered > 0 else 0.0
