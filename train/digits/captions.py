"""Pictures and videos in words: what stages 1 to 3 learn to write."""

from __future__ import annotations

import numpy as np

from train.digits.handwritten import GLYPH_SIDE
from train.digits.questions import NAMES, TYPES, ask, ask_absent, tell_event
from train.digits.world import NUM_DIGITS, SIDE, Event, World

_COLUMNS = ("left", "middle", "right")
_ROWS = ("top", "middle", "bottom")
Message = dict[str, str]


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
