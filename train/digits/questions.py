"""Questions about a world, with the seconds that answer them.

Types, after the paper's four (arXiv 2507.13353): semantic only, of which temporal order is reported
apart; motion only; semantic and motion; and non-clues, which no single moment answers. A question
may ask for something that is not there: then no second answers it.

Pictures and videos in words besides: what stages 1 to 3 learn to write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from train.digits.handwritten import GLYPH_SIDE
from train.digits.world import MOTIONS, NUM_DIGITS, SIDE, Event, Motion, World

QuestionType = Literal["semantic", "order", "motion", "semantic_motion", "non_clues"]
# The order of the types decides the order of draws, and so what a seed gives.
TYPES: tuple[QuestionType, ...] = ("semantic", "order", "motion", "semantic_motion", "non_clues")
ABSENT_TYPES = TYPES[:-1]
"""No non_clues: the whole video is always there."""
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_MAX_SHARE = 0.4
"""A motion that fills more of a video than this is not asked for: it would hardly be grounding."""
_TEXTS = {
    "semantic": ("When is a {digit} shown?", "Which frames show a {digit}?", "Find the {digit}."),
    "motion": ("When does something {verb}?", "Which frames show something that {verbs}?"),
    "semantic_motion": ("When does a {digit} {verb}?", "Which frames show a {digit} that {verbs}?"),
    "order": (
        "Which digit comes right {side} the {digit}?",
        "When is the digit shown that comes right {side} the {digit}?",
    ),
    "non_clues": ("Describe the whole video.", "What happens in this video?"),
}
_COLUMNS = ("left", "middle", "right")
_ROWS = ("top", "middle", "bottom")
Message = dict[str, str]
_Subject = tuple[int | None, Motion | None]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question."""

    type: QuestionType
    text: str
    answer: str
    seconds: tuple[int, ...]
    """The seconds that answer it, increasing; none if it asks for what is not there."""

    @property
    def is_absent(self) -> bool:
        """Whether it asks for something that is not in the video."""
        return not self.seconds


def ask(world: World, rng: np.random.Generator, kind: QuestionType) -> Question | None:
    """Ask for something that is in the world, as hard as the world allows.

    None: the world has nothing of this type that every word of a question is needed for.
    """
    if kind == "order":
        return _about_order(world, rng)
    if kind == "non_clues":
        return Question(
            type=kind,
            text=_choose(rng, _TEXTS[kind]),
            answer=_tell(world, lambda _: True),
            # Of each event the first second in which it is shown.
            seconds=tuple(event.first for event in world.events),
        )
    return _about(world, rng, kind, _present(world, kind))


def ask_absent(world: World, rng: np.random.Generator, kind: QuestionType) -> Question | None:
    """Ask for something that is not in the world, of which parts may be.

    None: everything of this type is there, or nothing can be missing from it.
    """
    if kind == "order":
        return _about_absent_order(world, rng)
    return _about(world, rng, kind, _absent(world, kind))


def tell_event(event: Event) -> str:
    """Return one sentence about an event."""
    return f"a {NAMES[event.digit]} {_verb(event.motion, third_person=True)}."


def _verb(motion: Motion, *, third_person: bool = False) -> str:
    """Return a motion in words: "move left", "stands still"."""
    stem, rest = ("stand", "still") if motion == "still" else ("move", motion)
    return f"{stem}{'s' if third_person else ''} {rest}"


def _present(world: World, kind: QuestionType) -> list[_Subject]:
    digits, motions, pairs = _contents(world)
    if kind == "semantic":
        # With one digit in the video, "a seven" could be read as "something".
        return [(digit, None) for digit in digits] if len(digits) > 1 else []
    if kind == "motion":
        longest = _MAX_SHARE * world.num_seconds
        rare = [m for m in motions if len(_seconds(world, _fitting((None, m)))) <= longest]
        # By what is there at all: where all move alike, the word for it is not needed.
        return [(None, motion) for motion in rare] if len(motions) > 1 else []
    # Digits that also do something else, and motions that another digit has too.
    return [
        (digit, motion)
        for digit in digits
        for motion in motions
        if (digit, motion) in pairs
        and any(d == digit and m != motion for d, m in pairs)
        and any(d != digit and m == motion for d, m in pairs)
    ]


def _absent(world: World, kind: QuestionType) -> list[_Subject]:
    digits, motions, pairs = _contents(world)
    if kind == "semantic":
        return [(digit, None) for digit in range(NUM_DIGITS) if digit not in digits]
    if kind == "motion":
        return [(None, motion) for motion in MOTIONS if motion not in motions]
    if kind == "semantic_motion":
        # Both are there, but never together.
        return [(d, m) for d in digits for m in motions if (d, m) not in pairs]
    return []


def _contents(world: World) -> tuple[list[int], list[Motion], set[tuple[int, Motion]]]:
    pairs = {(event.digit, event.motion) for event in world.events}
    digits = sorted({digit for digit, _ in pairs})
    shown = {motion for _, motion in pairs}
    return digits, [motion for motion in MOTIONS if motion in shown], pairs


def _fitting(subject: _Subject) -> Callable[[Event], bool]:
    digit, motion = subject
    return lambda event: digit in (None, event.digit) and motion in (None, event.motion)


def _about(
    world: World, rng: np.random.Generator, kind: QuestionType, subjects: list[_Subject]
) -> Question | None:
    if not subjects:
        return None
    digit, motion = subject = subjects[rng.integers(len(subjects))]
    words = {}
    if digit is not None:
        words["digit"] = NAMES[digit]
    if motion is not None:
        words |= {"verb": _verb(motion), "verbs": _verb(motion, third_person=True)}
    return Question(
        type=kind,
        text=_choose(rng, _TEXTS[kind]).format(**words),
        answer=_tell(world, _fitting(subject)),
        seconds=_seconds(world, _fitting(subject)),
    )


def _about_order(world: World, rng: np.random.Generator) -> Question | None:
    """Ask for the event before or after a digit that is shown once."""
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
    return Question(
        type="order",
        text=_choose(rng, _TEXTS["order"]).format(side=side, digit=NAMES[anchor.digit]),
        answer=f"The {NAMES[target.digit]}.",
        seconds=tuple(target.seconds),
    )


def _about_absent_order(world: World, rng: np.random.Generator) -> Question | None:
    """Ask for what comes before or after a digit that is not there."""
    shown = {event.digit for event in world.events}
    names = tuple(name for digit, name in enumerate(NAMES) if digit not in shown)
    if not names:
        return None
    name = _choose(rng, names)
    side = _choose(rng, ("after", "before"))
    text = _choose(rng, _TEXTS["order"]).format(side=side, digit=name)
    return Question(type="order", text=text, answer=f"There is no {name}.", seconds=())


def _seconds(world: World, fits: Callable[[Event], bool]) -> tuple[int, ...]:
    return tuple(sorted({s for event in world.events if fits(event) for s in event.seconds}))


def _tell(world: World, fits: Callable[[Event], bool]) -> str:
    told = [tell_event(event) for event in world.events if fits(event)]
    return " Then ".join(told) if told else "Nothing of the kind is shown."


def _choose(rng: np.random.Generator, texts: tuple[str, ...]) -> str:
    return texts[rng.integers(len(texts))]


def scene_caption(world: World) -> list[Message]:
    """Return the two messages of stage 1: an image and what it shows."""
    return _turn("<image>\nDescribe the image.", describe_scene(world))


def scene_conversation(world: World, rng: np.random.Generator) -> list[Message]:
    """Return the messages of stage 2: a few questions about one image."""
    shown = {event.digit for event in world.events}
    some = int(rng.choice(sorted(shown)))
    # May be shown by chance, so that "Yes." is an answer too.
    other = int(rng.integers(NUM_DIGITS))
    # A digit may be there twice; the question is answered by the first.
    first = next(event for event in world.events if event.digit == some)
    turns = [
        ("Describe the image.", describe_scene(world)),
        (f"Is there a {NAMES[other]}?", "Yes." if other in shown else "No."),
        ("How many digits are shown?", f"{NAMES[len(world.events)].capitalize()}."),
        (f"Where is the {NAMES[some]}?", f"{_place(first).capitalize()}."),
    ]
    order = rng.permutation(len(turns))
    messages = [message for i in order for message in _turn(*turns[i])]
    messages[0]["value"] = "<image>\n" + messages[0]["value"]
    return messages


def video_conversation(world: World, rng: np.random.Generator) -> list[Message]:
    """Return the messages of stage 3: what happens, and a question about it."""
    kind = TYPES[rng.integers(len(TYPES))]
    # A world may not have this type; then something absent is asked for.
    question = ask(world, rng, kind) or ask_absent(world, rng, kind)
    turns = [("Describe the video.", " ".join(tell_event(event) for event in world.events))]
    # "Describe the whole video" is the first turn already.
    if question is not None and kind != "non_clues":
        turns.append((question.text, question.answer))
    messages = [message for turn in turns for message in _turn(*turn)]
    messages[0]["value"] = "<image>\n" + messages[0]["value"]
    return messages


def describe_scene(world: World) -> str:
    """Return one sentence about a picture, its digits from left to right."""
    events = sorted(world.events, key=lambda event: event.x)
    return ", ".join(f"a {NAMES[event.digit]} {_place(event)}" for event in events) + "."


def _place(event: Event) -> str:
    # Of the glyph's middle; (x, y) is its upper left corner.
    thirds = [int((edge + GLYPH_SIDE / 2) / SIDE * 3) for edge in (event.x, event.y)]
    column, row = _COLUMNS[thirds[0]], _ROWS[thirds[1]]
    return "in the middle" if column == row == "middle" else f"at the {row} {column}"


def _turn(question: str, answer: str) -> list[Message]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
