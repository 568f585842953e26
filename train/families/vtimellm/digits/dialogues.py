"""What is said about MovingDigits: diaries for the language model, then each stage's turns.

A turn is the text behind the video that is given, and the text that the model goes on with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundserve.families.vtimellm.prompt import word_question
from groundserve.options import AnswerOptions
from train.digits.moments import (
    MOMENT_TYPES,
    ask_moment,
    event_window,
    event_words,
    hundredths,
)
from train.digits.questions import NAMES, QuestionType, describe_scene
from train.digits.world import MOTIONS, NUM_DIGITS, World


class Turn(NamedTuple):
    """Words about a video, and what the model goes on with."""

    given: str
    said: str
    frames: tuple[int, int] | None = None
    """First and last hundredth that it tells, where it tells one moment."""


NUM_FRAMES = 100
_NOTHING = "nothing"
_FILLERS = ("a", "at", "in", "the")
_GROUNDING = (
    "During which frames can we see {} happening in the video?",
    "At which time interval in the video can we see {} occurring?",
    "Between which frames is {} visible in the video?",
)
_SEGMENT = (
    "Can you describe what occurred from {} to {} in the video?",
    "Tell me about the events from {} to {} in the video.",
)
_DENSE = (
    "Could you please detail the events that took place during different time segments?",
    "What events happened at different times in the video?",
)
_MOMENT, _CAPTIONS = AnswerOptions(task="moment"), AnswerOptions(task="captions")


def diary(world: World) -> list[list[str]]:
    """Return words for each hundredth of a video: the digits shown, and how they move.

    Their embeddings stand where the video will, so a language model learns from words alone to
    tell when.
    """
    shown = [world.shown(int(second)) for second in sample_seconds(world.num_seconds)]
    return [
        [word for one in events for word in (NAMES[one.digit], one.motion)] or [_NOTHING]
        for events in shown
    ]


def sample_seconds(num_seconds: int) -> list[float]:
    """Return when each of the frames that the family samples is shown, at `VIDEO_FPS`."""
    return [int(place) / 2 for place in np.linspace(0, num_seconds * 2 - 1, NUM_FRAMES)]


def scene_words(scene: World) -> list[str]:
    """Return the words of a picture's caption that say something: which digits, and where."""
    return [word for word in re.findall("[a-z]+", describe_scene(scene)) if word not in _FILLERS]


def instant(world: World, second: float) -> World:
    """Return what a video shows at a time as a picture."""
    events = []
    for event in world.shown(int(second)):
        x, y = event.position(second)
        events.append(replace(event, first=0, last=0, x=x, y=y))
    return replace(world, num_seconds=1, events=tuple(events))


def index_turns(world: World) -> list[Turn]:
    """Return an index of a diary: digits, motions, both, and neighbours, with when each is told."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for event in world.events:
        digit, window = NAMES[event.digit], event_window(event)
        for words in (digit, event.motion, f"{digit} {event.motion}"):
            spans.setdefault(words, []).append(window)
    for side, pairs in (("after", world.events), ("before", world.events[::-1])):
        for anchor, target in pairwise(pairs):
            words = f"{side} {NAMES[anchor.digit]}"
            spans.setdefault(words, []).append(event_window(target))
    return [
        Turn(
            f"\n{words}",
            "from {} to {}.".format(*_times(world, windows[0])),
            hundredths(windows[0], world.num_seconds),
        )
        for words, windows in spans.items()
        if len(windows) == 1
    ]


def picture_turn(scene: World) -> Turn:
    """Return the turn of the first stage: nothing is asked, and a caption said."""
    return Turn(
        "\n",
        describe_scene(scene).capitalize() if scene.events else f"{_NOTHING.capitalize()}.",
    )


NUM_FACTS = NUM_DIGITS * (len(MOTIONS) + 2)
SHOWN = len(MOTIONS)
"""Among the facts of a digit, behind its motions: that it is shown; then, that it came before."""


def frame_facts(world: World) -> NDArray[np.float32]:
    """Return float32 (100, F): which digits each frame shows, how they move, what came before."""
    before = dict(zip(world.events[1:], world.events, strict=False))
    facts = np.zeros((NUM_FRAMES, NUM_DIGITS, len(MOTIONS) + 2), np.float32)
    for place, second in enumerate(sample_seconds(world.num_seconds)):
        for event in world.shown(int(second)):
            facts[place, event.digit, MOTIONS.index(event.motion)] = 1
            facts[place, event.digit, SHOWN] = 1
            if event in before:
                facts[place, before[event].digit, -1] = 1
    return facts.reshape(NUM_FRAMES, NUM_FACTS)


def latest_beginnings(world: World) -> NDArray[np.int64]:
    """Return int64 (100,), the first frame of the latest event that has begun at each frame."""
    seconds = np.array(sample_seconds(world.num_seconds))
    first_frames = np.searchsorted(seconds, [0, *(event.first for event in world.events)])
    begun = np.searchsorted([event.first for event in world.events], seconds, side="right")
    return np.asarray(first_frames[begun], np.int64)


def boundary_turns(world: World, rng: np.random.Generator, *, dense: float = 0.25) -> list[Turn]:
    """Return the turns of the second stage: all events, when one happens, what happens when."""
    turns = [_ask(_choose(rng, _DENSE), _tell_all(world))] if rng.random() < dense else []
    for event in rng.permutation(np.array(world.events, dtype=object))[:4]:
        # Of two alike nobody could say which is meant.
        if sum((e.digit, e.motion) == (event.digit, event.motion) for e in world.events) > 1:
            continue
        first, last = _times(world, event_window(event))
        words = event_words(event)
        asked, frames = _choose(rng, _GROUNDING).format(words), (int(first), int(last))
        turns.append(_ask(asked, f"From {first} to {last}.", frames))
        turns.append(_ask(_choose(rng, _SEGMENT).format(first, last), f"{words.capitalize()}."))
    return turns


def dialogue_turns(
    world: World,
    rng: np.random.Generator,
    *,
    captions: float = 0.15,
    kinds: Sequence[QuestionType] = MOMENT_TYPES * 2,
) -> list[Turn]:
    """Return the turns of the third stage, worded as serving does: questions, and all events."""
    turns = []
    for kind in kinds:
        question = ask_moment(world, rng, kind)
        if question is not None:
            first, last = _times(world, question.window)
            text = question.text
            if rng.random() < 0.3:
                text = text.replace(" a ", " the ")
            said, frames = f"From {first} to {last}.", (int(first), int(last))
            turns.append(_ask(word_question(text, _MOMENT), said, frames))
    turns = list(dict.fromkeys(turns))
    if rng.random() < captions:
        events = [
            {
                "event": event_words(event),
                "timestamps": "from {} to {}".format(*_times(world, event_window(event))),
            }
            for event in world.events
        ]
        turns.append(_ask(word_question("", _CAPTIONS), json.dumps(events)))
    return turns


def _ask(question: str, said: str, frames: tuple[int, int] | None = None) -> Turn:
    return Turn(f"\n{question} ASSISTANT:", said, frames)


def _tell_all(world: World) -> str:
    told = []
    for event in world.events:
        first, last = _times(world, event_window(event))
        told.append(f"From {first} to {last}, {event_words(event)}.")
    return " ".join(told)


def _times(world: World, window: tuple[float, float]) -> tuple[str, str]:
    first, last = hundredths(window, world.num_seconds)
    return f"{first:02d}", f"{last:02d}"


def _choose(rng: np.random.Generator, texts: tuple[str, ...]) -> str:
    return texts[rng.integers(len(texts))]
