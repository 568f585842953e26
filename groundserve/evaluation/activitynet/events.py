"""Described stretches of a video: told ones and true ones, and how far they meet.

Source: huangb23/VTimeLLM c34ae56, `vtimellm/eval/metric.py` and `dvc_eval/eval_dvc.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from groundserve.evaluation.activitynet.annotations import Annotation
from groundserve.evaluation.activitynet.answers import Event
from groundserve.evaluation.spans import Window

_SAME_SENTENCE = 0.98
"""Two neighbours are one event where `difflib` finds them more alike than this ..."""
_MAX_GAP_PERCENT = 1.0
"""... and no more than this lies between the last hundredth of one and the first of the next."""
_HUNDREDTH = 1.0
"""An event's end is that of its last hundredth."""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A described stretch of a video."""

    window: Window
    """In seconds."""
    sentence: str


def merge_neighbours(events: Sequence[Event]) -> list[Event]:
    """Join events that follow each other, tell the same and leave no more than a hundredth between.

    Of those joined the first's sentence and start stay, with the last one's end.
    """
    merged: list[Event] = []
    for event in events:
        last = merged[-1] if merged else None
        if last is not None and _is_same(last, event):
            event = Event(
                start_percent=last.start_percent,
                end_percent=event.end_percent,
                sentence=last.sentence,
            )
            merged.pop()
        merged.append(event)
    return merged


def as_captions(events: Iterable[Event], duration_seconds: float) -> list[Caption]:
    """Return events with their times in seconds, as they are told or as percent of a duration."""
    return [
        Caption(window=event.window(duration_seconds), sentence=event.sentence) for event in events
    ]


def straighten(captions: Iterable[Caption]) -> list[Caption]:
    """Turn around those that end before they start.

    Source: gyxxyg/VTG-LLM ce13f3e, `metrics/dvc/eval_dvc.py::iou`.
    """
    return [
        Caption(window=(min(one.window), max(one.window)), sentence=one.sentence)
        for one in captions
    ]


def window_iou(first: Window, second: Window) -> float:
    """Return shared time over covered time; of windows that do not meet it is 0.

    A hundred-millionth of a second is added to what is covered, so that it is never 0.
    """
    shared = max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
    hull = max(first[1], second[1]) - min(first[0], second[0])
    lengths = first[1] - first[0] + second[1] - second[0]
    return shared / (min(hull, lengths) + 1e-8)


def annotated_captions(annotation: Annotation) -> list[Caption]:
    """Return what annotators described."""
    return [
        Caption(window=window, sentence=sentence)
        for window, sentence in zip(annotation.windows, annotation.sentences, strict=True)
    ]


def window_ious(first: Sequence[Caption], second: Sequence[Caption]) -> NDArray[np.float64]:
    """Return float64 (first, second), `window_iou` of each two."""
    ious = [[window_iou(one.window, other.window) for other in second] for one in first]
    return np.array(ious, np.float64).reshape(len(first), len(second))


def _is_same(last: Event, event: Event) -> bool:
    gap = event.start_percent - (last.end_percent - _HUNDREDTH)
    return (
        abs(gap) <= _MAX_GAP_PERCENT
        and SequenceMatcher(None, last.sentence, event.sentence).ratio() > _SAME_SENTENCE
    )
