"""Questions about a world, with the seconds that answer them.

Types, after the paper's four (arXiv 2507.13353): semantic only, of which temporal order is reported
apart; motion only; semantic and motion; and non-clues, which no single moment answers. A question
may ask for something that is not there: then no second answers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from train.digits.world import MOTIONS, NUM_DIGITS, Event, Motion, World

QuestionType = Literal["semantic", "order", "motion", "semantic_motion", "non_clues"]
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_MAX_SHARE = 0.4
"""A motion that fills more of a video than this is not asked for: it would hardly be grounding."""

_SEMANTIC = ("When is a {digit} shown?", "Which frames show a {digit}?", "Find the {digit}.")
_MOTION = ("When does something {verb}?", "Which frames show something that {verbs}?")
_BOTH = ("When does a {digit} {verb}?", "Which frames show a {digit} that {verbs}?")
_ORDER = (
    "Which digit comes right {side} the {digit}?",
    "When is the digit shown that comes right {side} the {digit}?",
)
_NON_CLUES = ("Describe the whole video.", "What happens in this video?")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question."""

    type: QuestionType
    """What must be understood."""
    text: str
    answer: str
    seconds: tuple[int, ...]
    """The seconds that answer it, increasing; none if it asks for what is not there."""

    @property
    def is_absent(self) -> bool:
        """Whether it asks for something that is not in the video."""
        return not self.seconds


def verb(motion: Motion, *, third_person: bool = False) -> str:
    """Return a motion in words: "move left", "stands still"."""
    stem, rest = ("stand", "still") if motion == "still" else ("move", motion)
    return f"{stem}{'s' if third_person else ''} {rest}"


def ask(world: World, rng: np.random.Generator, kind: QuestionType) -> Question | None:
    """Ask for something that is in the world, as hard as the world allows.

    Args:
        world: What is shown.
        rng: Drawn from for what is asked, and in which words.
        kind: Type of the question.

    Returns:
        None if the world has nothing of this type that every word of a question is needed for.
    """
    return _ASK[kind](world, rng)


def ask_absent(world: World, rng: np.random.Generator, kind: QuestionType) -> Question | None:
    """Ask for something that is not in the world, of which parts may be.

    Returns:
        None if everything of this type is there, or nothing can be missing from it.
    """
    asker = _ASK_ABSENT.get(kind)
    return asker(world, rng) if asker else None


def _semantic(world: World, rng: np.random.Generator) -> Question | None:
    digits = _digits(world)
    # With one digit in the video, "a seven" could be read as "something".
    return _about_digit(rng, world, digits) if len(digits) > 1 else None


def _absent_semantic(world: World, rng: np.random.Generator) -> Question | None:
    return _about_digit(rng, world, sorted(set(range(NUM_DIGITS)) - set(_digits(world))))


def _about_digit(rng: np.random.Generator, world: World, digits: list[int]) -> Question | None:
    if not digits:
        return None
    digit = int(rng.choice(digits))
    return Question(
        type="semantic",
        text=_choose(rng, _SEMANTIC).format(digit=NAMES[digit]),
        answer=_tell(world, lambda event: event.digit == digit),
        seconds=_seconds(world, lambda event: event.digit == digit),
    )


def _motion(world: World, rng: np.random.Generator) -> Question | None:
    motions = [
        motion
        for motion in _motions(world)
        if len(_seconds(world, lambda event, m=motion: event.motion == m))  # type: ignore[misc]
        <= _MAX_SHARE * world.num_seconds
    ]
    # By what is there at all: where all move alike, the word for it is not needed.
    return _about_motion(rng, world, motions) if len(_motions(world)) > 1 else None


def _absent_motion(world: World, rng: np.random.Generator) -> Question | None:
    return _about_motion(rng, world, [m for m in MOTIONS if m not in _motions(world)])


def _about_motion(rng: np.random.Generator, world: World, motions: list[Motion]) -> Question | None:
    if not motions:
        return None
    motion = motions[rng.integers(len(motions))]
    text = _choose(rng, _MOTION).format(verb=verb(motion), verbs=verb(motion, third_person=True))
    return Question(
        type="motion",
        text=text,
        answer=_tell(world, lambda event: event.motion == motion),
        seconds=_seconds(world, lambda event: event.motion == motion),
    )


def _semantic_motion(world: World, rng: np.random.Generator) -> Question | None:
    """Of digits that also do something else, and motions that another digit has too."""
    pairs = sorted({(event.digit, MOTIONS.index(event.motion)) for event in world.events})
    hard = [
        (digit, motion)
        for digit, motion in pairs
        if any(d == digit and m != motion for d, m in pairs)
        and any(d != digit and m == motion for d, m in pairs)
    ]
    return _about_both(rng, world, hard)


def _absent_semantic_motion(world: World, rng: np.random.Generator) -> Question | None:
    """Of digits and motions that are both there, but never together."""
    pairs = {(event.digit, MOTIONS.index(event.motion)) for event in world.events}
    motions = {motion for _, motion in pairs}
    return _about_both(
        rng, world, sorted({(d, m) for d in _digits(world) for m in motions} - pairs)
    )


def _about_both(
    rng: np.random.Generator, world: World, pairs: list[tuple[int, int]]
) -> Question | None:
    if not pairs:
        return None
    digit, number = pairs[rng.integers(len(pairs))]
    motion = MOTIONS[number]

    def fits(event: Event) -> bool:
        return event.digit == digit and event.motion == motion

    words = {"digit": NAMES[digit], "verb": verb(motion), "verbs": verb(motion, third_person=True)}
    return Question(
        type="semantic_motion",
        text=_choose(rng, _BOTH).format(**words),
        answer=_tell(world, fits),
        seconds=_seconds(world, fits),
    )


def _order(world: World, rng: np.random.Generator) -> Question | None:
    """Of the events before and after a digit that is shown once."""
    found = []
    for i, anchor in enumerate(world.events):
        # "After the five" says nothing where there are two.
        if sum(event.digit == anchor.digit for event in world.events) > 1:
            continue
        for side, j in (("after", i + 1), ("before", i - 1)):
            if 0 <= j < len(world.events):
                found.append((anchor, side, world.events[j]))
    # With two events the answer is the one that is not named, before or after.
    if not found or len(world.events) < 3:
        return None
    anchor, side, target = found[rng.integers(len(found))]
    return _about_order(rng, anchor.digit, side, target)


def _absent_order(world: World, rng: np.random.Generator) -> Question | None:
    """Of what comes after a digit that is not there."""
    digits = sorted(set(range(NUM_DIGITS)) - set(_digits(world)))
    if not digits:
        return None
    return _about_order(rng, int(rng.choice(digits)), _choose(rng, ("after", "before")), None)


def _about_order(
    rng: np.random.Generator, anchor: int, side: str, target: Event | None
) -> Question:
    return Question(
        type="order",
        text=_choose(rng, _ORDER).format(side=side, digit=NAMES[anchor]),
        answer=f"The {NAMES[target.digit]}." if target else f"There is no {NAMES[anchor]}.",
        seconds=tuple(target.seconds) if target else (),
    )


def _non_clues(world: World, rng: np.random.Generator) -> Question | None:
    """One second of each event, spread over the whole video: the first in which it is shown."""
    return Question(
        type="non_clues",
        text=_choose(rng, _NON_CLUES),
        answer=_tell(world, lambda _: True),
        seconds=tuple(event.first for event in world.events),
    )


_Asker = Callable[[World, np.random.Generator], Question | None]
# The order of the types decides the order of draws, and so what a seed gives.
_ASK: dict[QuestionType, _Asker] = {
    "semantic": _semantic,
    "order": _order,
    "motion": _motion,
    "semantic_motion": _semantic_motion,
    "non_clues": _non_clues,
}
# No non_clues: the whole video is always there.
_ASK_ABSENT: dict[QuestionType, _Asker] = {
    "semantic": _absent_semantic,
    "order": _absent_order,
    "motion": _absent_motion,
    "semantic_motion": _absent_semantic_motion,
}
TYPES: tuple[QuestionType, ...] = tuple(_ASK)
ABSENT_TYPES: tuple[QuestionType, ...] = tuple(_ASK_ABSENT)


def _digits(world: World) -> list[int]:
    return sorted({event.digit for event in world.events})


def _motions(world: World) -> list[Motion]:
    return [motion for motion in MOTIONS if any(e.motion == motion for e in world.events)]


def _seconds(world: World, fits: Callable[[Event], bool]) -> tuple[int, ...]:
    return tuple(sorted({s for event in world.events if fits(event) for s in event.seconds}))


def _tell(world: World, fits: Callable[[Event], bool]) -> str:
    told = [tell_event(event) for event in world.events if fits(event)]
    return " Then ".join(told) if told else "Nothing of the kind is shown."


def tell_event(event: Event) -> str:
    """Return one sentence about an event."""
    return f"a {NAMES[event.digit]} {verb(event.motion, third_person=True)}."


def _choose(rng: np.random.Generator, texts: tuple[str, ...]) -> str:
    return texts[rng.integers(len(texts))]
