"""Questions are checked against a world written by hand, and against worlds at random."""

import numpy as np
import pytest

from train.digits.questions import (
    ABSENT_TYPES,
    NAMES,
    ask,
    ask_absent,
)
from train.digits.world import Event, World

LOOK = {"sample": 0, "x": 40.0, "y": 40.0, "colour": (1.0, 1.0, 1.0)}


def event(digit, motion, first, last):
    speed = 0.0 if motion == "still" else 9.0
    return Event(digit=digit, motion=motion, first=first, last=last, speed=speed, **LOOK)


def world(*events, num_seconds=40):
    return World(split="test", num_seconds=num_seconds, events=events, background_seed=0)


WORLD = world(
    event(7, "left", 2, 5),
    event(5, "up", 8, 11),
    event(7, "still", 13, 16),
    event(2, "left", 15, 19),
    event(9, "still", 30, 33),
)


def everything_asked(kind, asker=ask, tries=60):
    """Return text -> seconds of all questions that can be drawn."""
    found = {}
    for seed in range(tries):
        question = asker(WORLD, np.random.default_rng(seed), kind)
        if question is not None:
            assert question.type == kind
            found[question.text] = question.seconds
    return found


@pytest.mark.parametrize(
    ("kind", "text", "seconds"),
    [
        ("semantic", "When is a seven shown?", [*range(2, 6), *range(13, 17)]),
        ("semantic", "Find the two.", range(15, 20)),
        ("motion", "When does something move left?", [*range(2, 6), *range(15, 20)]),
        ("motion", "When does something stand still?", [*range(13, 17), *range(30, 34)]),
        ("semantic_motion", "When does a seven move left?", range(2, 6)),
        ("semantic_motion", "Which frames show a seven that stands still?", range(13, 17)),
        ("order", "Which digit comes right after the five?", range(13, 17)),
        ("order", "Which digit comes right before the five?", range(2, 6)),
        ("order", "When is the digit shown that comes right after the two?", range(30, 34)),
        ("non_clues", "Describe the whole video.", [2, 8, 13, 15, 30]),
    ],
)
def test_seconds_that_answer(kind, text, seconds):
    assert everything_asked(kind)[text] == tuple(seconds)


@pytest.mark.parametrize("kind", ABSENT_TYPES)
def test_absent_questions_name_what_is_not_there(kind):
    asked = everything_asked(kind, ask_absent)
    assert asked
    assert set(asked.values()) == {()}
    shown = {NAMES[e.digit] for e in WORLD.events}
    for text in asked:
        words = set(text.strip("?.").split())
        if kind in ("semantic", "order"):
            assert not words & shown
        elif kind == "motion":
            assert words & {"right", "down"}
        else:  # both parts are there, never together
            assert words & shown
            assert words & {"left", "up", "still"}
