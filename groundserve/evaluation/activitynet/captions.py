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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.activitynet.annotations import Annotation
from groundserve.evaluation.activitynet.answers import Event, Events
from groundserve.evaluation.activitynet.language import (
    LANGUAGE_FIGURES,
    JavaLanguage,
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


class Caption(NamedTuple):
    """A described stretch of a video."""

    window: Window
    """In seconds."""
    sentence: str


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
    captions: Mapping[str, Events],
    annotations: Mapping[str, Annotation],
    language: JavaLanguage,
    *,
    protocol: Protocol = VTIMELLM,
    seed: int = 0,
    on_video: Callable[[int, int], None] = lambda number, total: None,
) -> CaptionReport:
    """Measure every video's answer, at least one, and average over the videos.

    `on_video` is called with the number of each video, from 1, and the number of videos.
    """
    if not captions:
        raise InvalidRequestError("cannot estimate from no answers")
    unanswered = [video for video in annotations if video not in captions]
    videos = [*captions, *(unanswered if protocol.counts_unanswered else ())]
    told, true = {}, {}
    for video in videos:
        annotation, events = annotations[video], captions.get(video) or ()
        joined = merge_neighbours(events) if protocol.merges_neighbours else events
        told[video] = as_captions(joined, annotation.duration_seconds)
        true[video] = list(map(Caption, annotation.windows, annotation.sentences))
        if protocol.straightens:
            told[video], true[video] = _straighten(told[video]), _straighten(true[video])
    every = [one.sentence for side in (told, true) for each in side.values() for one in each]
    words = language.tokenize(dict.fromkeys(every))  # not a set: always in the same order
    rng = random.Random(seed)
    measured = []
    for number, video in enumerate(videos, start=1):
        on_video(number, len(videos))
        sides = told[video], true[video]
        soda_c = _soda_c(*sides, words, language, sorts_events=protocol.sorts_events)
        measured.append({"soda_c": soda_c, **_matched(*sides, words, language, rng)})
    values = {name: np.array([one[name] for one in measured]) for name in measured[0]}
    localisation = _localisation_of_videos if protocol.f1_of_videos else _localisation
    return CaptionReport(
        seed=seed,
        num_unread=sum(events is None for events in captions.values()),
        num_unanswered=len(unanswered),
        figures={
            name: bootstrap_mean(values[name], videos, seed=seed)
            for name in ("soda_c", *LANGUAGE_FIGURES)
        }
        | localisation(values, videos, seed=seed),
    )


def merge_neighbours(events: Iterable[Event]) -> list[Event]:
    """Join events that follow each other, tell the same and leave no more than a hundredth between.

    Of those joined the first's sentence and start stay, with the last one's end.
    """
    merged: list[Event] = []
    for event in events:
        if merged and _is_same(merged[-1], event):
            last = merged.pop()
            event = Event(
                start_percent=last.start_percent,
                end_percent=event.end_percent,
                sentence=last.sentence,
            )
        merged.append(event)
    return merged


def _is_same(last: Event, event: Event) -> bool:
    gap = event.start_percent - (last.end_percent - _HUNDREDTH)
    return (
        abs(gap) <= _MAX_GAP_PERCENT
        and SequenceMatcher(None, last.sentence, event.sentence).ratio() > _SAME_SENTENCE
    )


def as_captions(events: Iterable[Event], duration_seconds: float) -> list[Caption]:
    """Return events with their times in seconds, as they are told or as percent of a duration."""
    return [Caption(event.window(duration_seconds), event.sentence) for event in events]


def _straighten(captions: Iterable[Caption]) -> list[Caption]:
    """Turn around those that end before they start.

    Source: gyxxyg/VTG-LLM ce13f3e, `metrics/dvc/eval_dvc.py::iou`.
    """
    return [Caption((min(window), max(window)), sentence) for window, sentence in captions]


def _window_ious(first: Sequence[Caption], second: Sequence[Caption]) -> NDArray[np.float64]:
    """Return float64 (first, second), shared time over covered time; 0 of windows that do not meet.

    A hundred-millionth of a second is added to what is covered, so that it is never 0.
    """
    sides = (np.array([one.window for one in side]).reshape(-1, 2) for side in (first, second))
    (start, end), (other_start, other_end) = (side.T for side in sides)
    start, end = start[:, None], end[:, None]
    shared = np.minimum(end, other_end) - np.maximum(start, other_start)
    hull = np.maximum(end, other_end) - np.minimum(start, other_start)
    lengths = end - start + other_end - other_start
    ious: NDArray[np.float64] = shared.clip(min=0) / (np.minimum(hull, lengths) + 1e-8)
    return ious


def _matched(
    told: Sequence[Caption],
    true: Sequence[Caption],
    words: Mapping[str, str],
    language: JavaLanguage,
    rng: random.Random,
) -> dict[str, float]:
    """Return one video's figures of matched events: words over all thresholds, times at each."""
    figures: dict[str, float] = {}
    ious = _window_ious(told, true)  # (N, M)
    scores: list[dict[str, float]] = []
    for at in TIOU_THRESHOLDS:
        # Each told event with all that it meets, or with a word that no caption has.
        pairs = []
        for one, row in zip(told, ious, strict=True):
            met = [words[true[place].sentence] for place in np.flatnonzero(row >= at)]
            pairs += [(words[one.sentence], other) for other in met or [_noise(rng)]]
        if pairs:
            scores.append({"meteor": language.meteor(pairs)[0], **ngram_scores(pairs)})
        else:
            scores.append(dict.fromkeys(LANGUAGE_FIGURES, 0.0))
        is_matched = ious > at  # here, and there not, a tie is no match
        figures[_at("precision", at)] = float(is_matched.any(axis=1).sum() / max(len(told), 1))
        figures[_at("recall", at)] = float(is_matched.any(axis=0).mean())
    return figures | {
        name: float(np.mean([one[name] for one in scores])) for name in LANGUAGE_FIGURES
    }


def _noise(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(10, 20)))


def _localisation(
    values: Mapping[str, NDArray[np.float64]], videos: Sequence[str], *, seed: int
) -> dict[str, Estimate]:
    """Estimate precision and recall, and F of their means, which is no mean over videos."""

    def figure(name: str, at: float, counts: NDArray[np.int64]) -> float:
        if name == "f1":
            return _f1(figure("precision", at, counts), figure("recall", at, counts))
        return float(counts @ values[_at(name, at)] / counts.sum())

    def estimate(name: str, *thresholds: float) -> Estimate:
        return bootstrap(
            lambda counts: float(np.mean([figure(name, at, counts) for at in thresholds])),
            videos,
            seed=seed,
        )

    figures = {}
    for name in ("precision", "recall", "f1"):
        figures[name] = estimate(name, *TIOU_THRESHOLDS)
        figures |= {_at(name, at): estimate(name, at) for at in TIOU_THRESHOLDS}
    return figures


def _localisation_of_videos(
    values: Mapping[str, NDArray[np.float64]], videos: Sequence[str], *, seed: int
) -> dict[str, Estimate]:
    """Estimate precision, recall and the mean of each video's F of the two."""
    names = ("precision", "recall")
    means = {
        name: np.mean([values[_at(name, at)] for at in TIOU_THRESHOLDS], axis=0) for name in names
    }
    measured = {**means, "f1": np.array(list(map(_f1, *means.values())))}
    measured |= {_at(name, at): values[_at(name, at)] for name in names for at in TIOU_THRESHOLDS}
    return {name: bootstrap_mean(each, videos, seed=seed) for name, each in measured.items()}


def _at(name: str, threshold: float) -> str:
    return f"{name}_at_0{10 * threshold:.0f}"


def _soda_c(
    told: Sequence[Caption],
    true: Sequence[Caption],
    words: Mapping[str, str],
    language: JavaLanguage,
    *,
    sorts_events: bool,
) -> float:
    """Return SODA_c of one video: F of its events, matched in order by time and words.

    `sorts_events` says whether both sides are taken by their start, else as they come.

    Source: fujiso/SODA, as huangb23/VTimeLLM c34ae56 has it in `dvc_eval/SODA/soda.py`.
    """
    if not told:
        return 0.0
    if sorts_events:
        told, true = (sorted(side, key=lambda one: one.window[0]) for side in (told, true))
    # The reference takes what was told for METEOR's reference and the truth for the hypothesis.
    pairs = [(words[one.sentence], words[other.sentence]) for one in true for other in told]
    meteor = np.array(language.meteor(pairs)[1]).reshape(len(true), len(told))
    scores = _window_ious(true, told) * meteor
    # [i, j]: the largest sum of the first i rows and j columns that matches each once, in order
    best = np.zeros((len(true) + 1, len(told) + 1))
    for i, row in enumerate(scores):
        for j, score in enumerate(row):
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + score)
    matched = float(best[-1, -1])
    return _f1(matched / len(told), matched / len(true))


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
