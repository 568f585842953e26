"""How well the events that answers tell match those that annotators described, in time and words.

Shape letters: M events of a video's annotation, N of its answer.

Source: huangb23/VTimeLLM c34ae56, `vtimellm/eval/metric.py`, with SODA_c of fujiso/SODA and the
figures of ranjaykrishna/densevid_eval as that folder has them.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.activitynet.annotations import Annotation
from groundserve.evaluation.activitynet.answers import Event
from groundserve.evaluation.activitynet.language import (
    LANGUAGE_FIGURES,
    Language,
    Pair,
    ngram_scores,
)
from groundserve.evaluation.bootstrap import Estimate, bootstrap, bootstrap_mean
from groundserve.evaluation.spans import Window

TIOU_THRESHOLDS = (0.3, 0.5, 0.7, 0.9)

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


@dataclass(frozen=True, kw_only=True)
class CaptionReport:
    """Figures over all answered videos."""

    seed: int
    """Of the resamples behind the intervals, and of the words that unmatched events are scored
    with."""
    num_unread: int
    """Videos whose answer tells no events that can be read; each counts with 0 in all figures."""
    figures: Mapping[str, Estimate]
    """Shares: `soda_c`, those of `LANGUAGE_FIGURES`, and `precision`, `recall`, `f1`, each also at
    each threshold (`recall_at_03`)."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "seed": self.seed,
            "num_unread": self.num_unread,
            **{name: estimate.as_dict() for name, estimate in self.figures.items()},
        }


def make_caption_report(
    captions: Mapping[str, tuple[Event, ...] | None],
    annotations: Mapping[str, Annotation],
    language: Language,
    *,
    seed: int = 0,
) -> CaptionReport:
    """Measure every video's answer and average over the videos.

    Args:
        captions: By video what the answer tells; at least one.
        annotations: By video, others too.
        language: Of `language`.
        seed: See `CaptionReport`.

    Raises:
        InvalidRequestError: There are no answers.
        GroundserveError: METEOR failed.
    """
    if not captions:
        raise InvalidRequestError("cannot estimate from no answers")
    told = {
        video: as_captions(merge_neighbours(events or ()), annotations[video].duration_seconds)
        for video, events in captions.items()
    }
    true = {video: _annotated(annotations[video]) for video in told}
    every = [one.sentence for side in (told, true) for each in side.values() for one in each]
    words = language.tokenize(set(every))
    rng = random.Random(seed)
    measured = [
        {
            "soda_c": soda_c(told[video], true[video], words, language),
            **_matched(told[video], true[video], words, language, rng),
        }
        for video in told
    ]
    videos = list(told)
    values = {name: np.array([one[name] for one in measured]) for name in measured[0]}
    figures = {
        name: bootstrap_mean(each, videos, seed=seed)
        for name, each in values.items()
        if name in ("soda_c", *LANGUAGE_FIGURES)
    }
    figures |= _localisation(values, videos, seed=seed)
    return CaptionReport(
        seed=seed,
        num_unread=sum(events is None for events in captions.values()),
        figures=figures,
    )


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
    """Return events with their times in seconds."""

    def seconds(percent: float) -> float:
        return percent * duration_seconds / 100

    return [
        Caption(
            window=(seconds(event.start_percent), seconds(event.end_percent)),
            sentence=event.sentence,
        )
        for event in events
    ]


def window_iou(first: Window, second: Window) -> float:
    """Return shared time over covered time; of windows that do not meet it is 0.

    A hundred-millionth of a second is added to what is covered, so that it is never 0.
    """
    shared = max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
    hull = max(first[1], second[1]) - min(first[0], second[0])
    lengths = first[1] - first[0] + second[1] - second[0]
    return shared / (min(hull, lengths) + 1e-8)


def soda_c(
    told: Sequence[Caption],
    true: Sequence[Caption],
    words: Mapping[str, str],
    language: Language,
) -> float:
    """Return SODA_c of one video: F of its events, matched in order by time and words.

    Args:
        told: N; 0 where there are none.
        true: M >= 1.
        words: Of `Language.tokenize`.
        language: For METEOR.
    """
    if not told:
        return 0.0
    told, true = (sorted(side, key=lambda one: one.window[0]) for side in (told, true))
    # The reference takes what was told for METEOR's reference and the truth for the hypothesis.
    pairs = [(words[one.sentence], words[other.sentence]) for one in true for other in told]
    meteor = np.array(language.meteor(pairs)[1]).reshape(len(true), len(told))
    best = match_in_order(_window_ious(true, told) * meteor)
    precision, recall = best / len(told), best / len(true)
    return _f1(precision, recall)


def match_in_order(scores: NDArray[np.float64]) -> float:
    """Return the largest sum of scores that matches each row and column once, none out of order.

    Args:
        scores: float64 (M, N), none below 0.
    """
    # [i, j]: of the first i rows and j columns
    best = np.zeros((scores.shape[0] + 1, scores.shape[1] + 1))
    for i, row in enumerate(scores):
        for j, score in enumerate(row):
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + score)
    return float(best[-1, -1])


def _matched(
    told: Sequence[Caption],
    true: Sequence[Caption],
    words: Mapping[str, str],
    language: Language,
    rng: random.Random,
) -> dict[str, float]:
    """Return one video's figures of matched events: words over all thresholds, times at each."""
    figures: dict[str, float] = {}
    ious = _window_ious(told, true)  # (N, M)
    scores: list[dict[str, float]] = []
    for at in TIOU_THRESHOLDS:
        pairs = _pairs(told, true, ious >= at, words, rng)
        scores.append(_word_figures(pairs, language))
        is_matched = ious > at  # here, and there not, a tie is no match
        figures[_at("precision", at)] = float(is_matched.any(axis=1).sum() / max(len(told), 1))
        figures[_at("recall", at)] = float(is_matched.any(axis=0).mean())
    return figures | {
        name: float(np.mean([one[name] for one in scores])) for name in LANGUAGE_FIGURES
    }


def _pairs(
    told: Sequence[Caption],
    true: Sequence[Caption],
    is_pair: NDArray[np.bool_],
    words: Mapping[str, str],
    rng: random.Random,
) -> list[Pair]:
    """Return each told event with all that it meets, or with noise where it meets nothing."""
    pairs: list[Pair] = []
    for one, meets in zip(told, is_pair, strict=True):
        met = [words[other.sentence] for other, is_met in zip(true, meets, strict=True) if is_met]
        pairs += [(words[one.sentence], other) for other in met or [_noise(rng)]]
    return pairs


def _noise(rng: random.Random) -> str:
    """Return a word that no caption has."""
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(10, 20)))


def _word_figures(pairs: Sequence[Pair], language: Language) -> dict[str, float]:
    if not pairs:
        return dict.fromkeys(LANGUAGE_FIGURES, 0.0)
    return {"meteor": language.meteor(pairs)[0], **ngram_scores(pairs)}


def _localisation(
    values: Mapping[str, NDArray[np.float64]], videos: Sequence[str], *, seed: int
) -> dict[str, Estimate]:
    """Estimate precision and recall, and F of their means, which is no mean over videos."""

    def mean(name: str, at: float, counts: NDArray[np.int64]) -> float:
        return float(counts @ values[_at(name, at)] / counts.sum())

    def figure(name: str, at: float, counts: NDArray[np.int64]) -> float:
        if name == "f1":
            return _f1(mean("precision", at, counts), mean("recall", at, counts))
        return mean(name, at, counts)

    def estimate(name: str, thresholds: Sequence[float]) -> Estimate:
        return bootstrap(
            lambda counts: float(np.mean([figure(name, at, counts) for at in thresholds])),
            videos,
            seed=seed,
        )

    figures = {}
    for name in ("precision", "recall", "f1"):
        figures[name] = estimate(name, TIOU_THRESHOLDS)
        for at in TIOU_THRESHOLDS:
            figures[_at(name, at)] = estimate(name, [at])
    return figures


def _annotated(annotation: Annotation) -> list[Caption]:
    return [
        Caption(window=window, sentence=sentence)
        for window, sentence in zip(annotation.windows, annotation.sentences, strict=True)
    ]


def _is_same(last: Event, event: Event) -> bool:
    gap = event.start_percent - (last.end_percent - _HUNDREDTH)
    return (
        abs(gap) <= _MAX_GAP_PERCENT
        and SequenceMatcher(None, last.sentence, event.sentence).ratio() > _SAME_SENTENCE
    )


def _window_ious(first: Sequence[Caption], second: Sequence[Caption]) -> NDArray[np.float64]:
    """Return float64, (first, second)."""
    ious = [[window_iou(one.window, other.window) for other in second] for one in first]
    return np.array(ious, np.float64).reshape(len(first), len(second))


def _at(name: str, threshold: float) -> str:
    return f"{name}_at_0{10 * threshold:.0f}"


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
