"""What is said about MovingDigits: diaries for the language model, then each stage's turns."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from groundserve.families.vtimellm.prompt import word_question
from groundserve.options import AnswerOptions
from train.digits.answers.turns import NUM_SECONDS, Turn, ask_moments, index
from train.digits.moments import MOMENT_TYPES, event_window, event_words, hundredths
from train.digits.questions import NAMES, QuestionType, describe_scene
from train.digits.world import World

SECONDS = tuple(int(place) / 2 for place in np.linspace(0, NUM_SECONDS * 2 - 1, 100))
"""When each of the 100 frames that the family samples is shown, at `VIDEO_FPS`."""

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
    shown = [world.shown(int(second)) for second in SECONDS]
    return [
        [word for one in events for word in (NAMES[one.digit], one.motion)] or [_NOTHING]
        for events in shown
    ]


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
    """Return the index of a diary, and when each of its entries is told."""
    return [
        Turn(
            f"\n{words}",
            "from {} to {}.".format(*_times(world, window)),
            hundredths(window, world.num_seconds),
        )
        for words, window in index(world)
    ]


def picture_turn(scene: World) -> Turn:
    """Return the turn of the first stage: nothing is asked, and a caption said."""
    return Turn(
        "\n",
        describe_scene(scene).capitalize() if scene.events else f"{_NOTHING.capitalize()}.",
    )


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
    for question in ask_moments(world, rng, kinds):
        first, last = _times(world, question.window)
        said, frames = f"From {first} to {last}.", (int(first), int(last))
        turns.append(_ask(word_question(question.text, _MOMENT), said, frames))
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
