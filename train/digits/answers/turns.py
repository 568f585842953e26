"""Turns about a video, and what is true of each of its frames.

A turn is the text behind the video that is given, and the text that the model goes on with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.digits.handwritten import SPLITS, Split
from train.digits.moments import (
    MOMENT_TYPES,
    MomentQuestion,
    Window,
    ask_moment,
    event_window,
)
from train.digits.questions import NAMES, QuestionType
from train.digits.world import MOTIONS, NUM_DIGITS, World, make_world

NUM_SECONDS = 48
"""Of every video, as of those of the test."""

KINDS: tuple[QuestionType, ...] = (*MOMENT_TYPES * 2, "order")
"""Asked of each video for a small model of another family; `order` is learnt last."""
CAPTIONS_SHARE = 0.25
"""Of those videos, in which all events are asked for as well."""

NUM_FACTS = NUM_DIGITS * (len(MOTIONS) + 2)
SHOWN = len(MOTIONS)
"""Among the facts of a digit, behind its motions: that it is shown; then, that it came before."""


class Turn(NamedTuple):
    """Words about a video, and what the model goes on with."""

    given: str
    said: str
    frames: tuple[int, int] | None = None
    """First and last of the model's frames that it tells, where it tells one moment."""


class FrameFacts(NamedTuple):
    """What is true of each frame; B videos, T frames, F facts about one."""

    shown: Tensor
    """float32 (B, T, F), 0 or 1."""
    begun: Tensor
    """int64 (B, T), the number of the frame in which the latest event began."""


def draw_world(split: Split, seed: int, number: int) -> World:
    """Draw the world of a number, which no other one shares."""
    rng = np.random.default_rng([SPLITS.index(split), seed, number])
    return make_world(rng, split=split, num_seconds=NUM_SECONDS)


def ask_moments(
    world: World, rng: np.random.Generator, kinds: Sequence[QuestionType] = MOMENT_TYPES * 2
) -> list[MomentQuestion]:
    """Return a question of each kind of which the video has one, in words as people vary them."""
    found = []
    for kind in kinds:
        question = ask_moment(world, rng, kind)
        if question is not None:
            text = question.text
            if rng.random() < 0.3:
                text = text.replace(" a ", " the ")
            found.append(replace(question, text=text))
    return found


def frames_of(window: Window) -> tuple[int, int]:
    """Return the first and the last frame of a moment, where there is one a second."""
    return int(window[0]), int(window[1]) - 1


def index(world: World) -> list[tuple[str, Window]]:
    """Return what happens once, in few words: digits, motions, both, and neighbours."""
    spans: dict[str, list[Window]] = {}
    for event in world.events:
        digit, window = NAMES[event.digit], event_window(event)
        for words in (digit, event.motion, f"{digit} {event.motion}"):
            spans.setdefault(words, []).append(window)
    for side, pairs in (("after", world.events), ("before", world.events[::-1])):
        for anchor, target in pairwise(pairs):
            words = f"{side} {NAMES[anchor.digit]}"
            spans.setdefault(words, []).append(event_window(target))
    return [(words, windows[0]) for words, windows in spans.items() if len(windows) == 1]


def facts_of(worlds: Sequence[World], seconds: Sequence[float]) -> FrameFacts:
    """Return what is true of the frames of each video that are shown at these seconds."""
    shown = np.stack([_shown(world, seconds) for world in worlds])
    begun = np.stack([_latest_beginnings(world, seconds) for world in worlds])
    return FrameFacts(torch.from_numpy(shown), torch.from_numpy(begun))


def _shown(world: World, seconds: Sequence[float]) -> NDArray[np.float32]:
    """Return float32 (T, F): which digits each frame shows, how they move, what came before."""
    before = dict(zip(world.events[1:], world.events, strict=False))
    facts = np.zeros((len(seconds), NUM_DIGITS, len(MOTIONS) + 2), np.float32)
    for place, second in enumerate(seconds):
        for event in world.shown(int(second)):
            facts[place, event.digit, MOTIONS.index(event.motion)] = 1
            facts[place, event.digit, SHOWN] = 1
            if event in before:
                facts[place, before[event].digit, -1] = 1
    return facts.reshape(len(seconds), NUM_FACTS)


def _latest_beginnings(world: World, seconds: Sequence[float]) -> NDArray[np.int64]:
    """Return int64 (T,), the first frame of the latest event that has begun at each frame."""
    first_frames = np.searchsorted(seconds, [0, *(event.first for event in world.events)])
    begun = np.searchsorted([event.first for event in world.events], seconds, side="right")
    return np.asarray(first_frames[begun], np.int64)
