"""How well the events that answers tell match those that annotators described, in time and words.

Shape letters: M events of a video's annotation, N of its answer.

Source: ranjaykrishna/densevid_eval, as huangb23/VTimeLLM c34ae56 has it in
`vtimellm/eval/metric.py` and `dvc_eval/eval_dvc.py`.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

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
from groundserve.evaluation.activitynet.moments import VTIMELLM, Protocol
from groundserve.evaluation.bootstrap import AsDict, Estimate, bootstrap, bootstrap_mean
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


@dataclass(frozen=True, kw_only=True)
class CaptionReport(AsDict):
    """Figures over all answered videos."""

    seed: int
    """The resamples behind the intervals and the words of unmatched events come from it."""
    num_unread: int
    """Videos whose answer tells no events that can be read; each counts with 0 in all figures."""
    num_unanswered: int
    """Annotated videos without an answer; whether they count, with 0, the protocol says."""
    figures: Mapping[str, Estimate]
    """Shares: `soda_c`, those of `LANGUAGE_FIGURES`, and `precision`, `recall`, `f1`, each also at
    each threshold (`recall_at_03`), where the protocol has F1 there."""


def make_caption_report(
    captions: Mapping[str, tuple[Event, ...] | None],
    annotations: Mapping[str, Annotation],
    language: Language,
    *,
    protocol: Protocol = VTIMELLM,
    seed: int = 0,
    on_video: Callable[[int, int], None] = lambda number, total: None,
) -> CaptionReport:
    """Measure every video's answer and average over the videos.

    Args:
        captions: By video what the answer tells; at least one.
        annotations: By video, others too.
        language: Of `language`.
        protocol: Whose evaluation.
        seed: See `CaptionReport`.
        on_video: Called with the number of each video, from 1, and the number of videos.
    """
    if not captions:
        raise InvalidRequestError("cannot estimate from no answers")
    unanswered = [video for video in annotations if video not in captions]
    told = {
        video: _told(events or (), annotations[video].duration_seconds, protocol)
        for video, events in captions.items()
    }
    if protocol.counts_unanswered:
        told |= {video: [] for video in unanswered}
    true = {video: annotated_captions(annotations[video]) for video in told}
    if protocol.straightens:
        true = {video: straighten(each) for video, each in true.items()}
    every = [one.sentence for side in (told, true) for each in side.values() for one in each]
    words = language.tokenize(dict.fromkeys(every))  # not a set: always in the same order
    rng = random.Random(seed)
    measured = []
    for number, video in enumerate(told, start=1):
        on_video(number, len(told))
        sides = told[video], true[video]
        measured.append(
            {
                "soda_c": soda_c(*sides, words, language, sorts_events=protocol.sorts_events),
                **_matched(*sides, words, language, rng),
            }
        )
    videos = list(told)
    values = {name: np.array([one[name] for one in measured]) for name in measured[0]}
    figures = {
        name: bootstrap_mean(each, videos, seed=seed)
        for name, each in values.items()
        if name in ("soda_c", *LANGUAGE_FIGURES)
    }
    localisation = _localisation_of_videos if protocol.f1_of_videos else _localisation
    figures |= localisation(values, videos, seed=seed)
    return CaptionReport(
        seed=seed,
        num_unread=sum(events is None for events in captions.values()),
        num_unanswered=len(unanswered),
        figures=figures,
    )


def _told(events: Sequence[Event], duration_seconds: float, protocol: Protocol) -> list[Caption]:
    """Return what an answer tells, as a protocol takes it."""
    if protocol.merges_neighbours:
        return as_captions(merge_neighbours(events), duration_seconds)
    captions = as_captions(events, duration_seconds)
    return straighten(captions) if protocol.straightens else captions


def _matched(
    told: Sequence[Caption],
    true: Sequence[Caption],
    words: Mapping[str, str],
    language: Language,
    rng: random.Random,
) -> dict[str, float]:
    """Return one video's figures of matched events: words over all thresholds, times at each."""
    figures: dict[str, float] = {}
    ious = window_ious(told, true)  # (N, M)
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
            return f1(mean("precision", at, counts), mean("recall", at, counts))
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


def _localisation_of_videos(
    values: Mapping[str, NDArray[np.float64]], videos: Sequence[str], *, seed: int
) -> dict[str, Estimate]:
    """Estimate precision, recall and the mean of each video's F of the two."""
    measured = dict(values)
    for name in ("precision", "recall"):
        measured[name] = np.mean([values[_at(name, at)] for at in TIOU_THRESHOLDS], axis=0)
    pairs = zip(measured["precision"], measured["recall"], strict=True)
    measured["f1"] = np.array([f1(*pair) for pair in pairs])
    at_each = [_at(name, at) for name in ("precision", "recall") for at in TIOU_THRESHOLDS]
    return {
        name: bootstrap_mean(measured[name], videos, seed=seed)
        for name in ("precision", "recall", "f1", *at_each)
    }


def _at(name: str, threshold: float) -> str:
    return f"{name}_at_0{10 * threshold:.0f}"


def soda_c(
    told: Sequence[Caption],
    true: Sequence[Caption],
    words: Mapping[str, str],
    language: Language,
    *,
    sorts_events: bool = True,
) -> float:
    """Return SODA_c of one video: F of its events, matched in order by time and words.

    Source: fujiso/SODA, as huangb23/VTimeLLM c34ae56 has it in `dvc_eval/SODA/soda.py`.

    Args:
        told: N; 0 where there are none.
        true: M >= 1.
        words: Of `Language.tokenize`.
        language: For METEOR.
        sorts_events: Whether both sides are taken by their start, else as they come.
    """
    if not told:
        return 0.0
    if sorts_events:
        told, true = (sorted(side, key=lambda one: one.window[0]) for side in (told, true))
    # The reference takes what was told for METEOR's reference and the truth for the hypothesis.
    pairs = [(words[one.sentence], words[other.sentence]) for one in true for other in told]
    meteor = np.array(language.meteor(pairs)[1]).reshape(len(true), len(told))
    best = match_in_order(window_ious(true, told) * meteor)
    precision, recall = best / len(told), best / len(true)
    return f1(precision, recall)


def match_in_order(scores: NDArray[np.float64]) -> float:
    """Return the largest sum of scores that matches each row and column once, none out of order."""
    # [i, j]: of the first i rows and j columns
    best = np.zeros((scores.shape[0] + 1, scores.shape[1] + 1))
    for i, row in enumerate(scores):
        for j, score in enumerate(row):
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + score)
    return float(best[-1, -1])


def f1(precision: float, recall: float) -> float:
    """Return the harmonic mean; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
