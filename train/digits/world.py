"""What happens in a MovingDigits video: which digit is shown when, where, and how it moves.

Time is counted in seconds, of which sampling at one frame a second takes one frame each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from train.digits.handwritten import GLYPH_SIDE, Split, glyphs

Motion = Literal["left", "right", "up", "down", "still"]
MOTIONS: tuple[Motion, ...] = ("left", "right", "up", "down", "still")
NUM_DIGITS = 10

SIDE = 128
"""Side of a video in pixels."""

_DIRECTIONS = {
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
    "still": (0.0, 0.0),
}
_ROOM = SIDE - GLYPH_SIDE
_MIN_SECONDS, _MAX_SECONDS = 4, 6
_MIN_GAP_SECONDS, _MAX_GAP_SECONDS = 2, 6  # between two beginnings
_MIN_SPEED, _MAX_SPEED = 11.0, 18.0  # pixels a second
_MAX_OVERLAP = 0.2
_NUM_PLACEMENTS = 20  # tries for an event before the best of them is taken


@dataclass(frozen=True, kw_only=True)
class Event:
    """One digit from when it appears to when it is gone."""

    digit: int
    sample: int
    """Which of the split's handwritten samples of that digit."""
    motion: Motion
    first: int
    last: int
    """Last second it is shown, inclusive."""
    x: float
    y: float
    speed: float
    """Pixels a second; 0 when it stands still."""
    colour: tuple[float, float, float]

    @property
    def seconds(self) -> range:
        """The seconds in which it is shown."""
        return range(self.first, self.last + 1)

    def position(self, second: float) -> tuple[float, float]:
        """Return its left and upper edge at a time within it."""
        dx, dy = _DIRECTIONS[self.motion]
        way = self.speed * (second - self.first)
        return self.x + dx * way, self.y + dy * way


@dataclass(frozen=True, kw_only=True)
class World:
    """The script of one video."""

    split: Split
    num_seconds: int
    """T, its length."""
    events: tuple[Event, ...]
    """In order of their first second; in a video no two begin at the same one."""
    background_seed: int

    def shown(self, second: int) -> list[Event]:
        """Return the events that show something in a second."""
        return [event for event in self.events if second in event.seconds]


def make_world(rng: np.random.Generator, *, split: Split, num_seconds: int) -> World:
    """Draw a world: some digits and some motions of all, so that others are absent from it."""
    digits = rng.permutation(NUM_DIGITS)[: rng.integers(5, 9)]  # 5 to 8
    motions = rng.permutation(len(MOTIONS))[: rng.integers(3, 6)]  # 3 to 5
    events: list[Event] = []
    first = int(rng.integers(0, _MIN_GAP_SECONDS + 1))
    while first + _MIN_SECONDS <= num_seconds:
        length = int(rng.integers(_MIN_SECONDS, _MAX_SECONDS + 1))
        digit = int(rng.choice(digits))
        event = _place(
            rng,
            events,
            digit=digit,
            sample=int(rng.integers(len(glyphs(split, digit)))),
            motion=MOTIONS[int(rng.choice(motions))],
            first=first,
            last=min(first + length, num_seconds) - 1,
        )
        events.append(event)
        first += int(rng.integers(_MIN_GAP_SECONDS, _MAX_GAP_SECONDS + 1))
    return World(
        split=split,
        num_seconds=num_seconds,
        events=tuple(events),
        background_seed=int(rng.integers(2**32)),
    )


def make_scene(rng: np.random.Generator, *, split: Split) -> World:
    """Draw a world of one second with one to four digits that stand still."""
    events: list[Event] = []
    for _ in range(rng.integers(1, 5)):
        digit = int(rng.integers(NUM_DIGITS))
        sample = int(rng.integers(len(glyphs(split, digit))))
        event = _place(rng, events, digit=digit, sample=sample, motion="still", first=0, last=0)
        events.append(event)
    return World(
        split=split,
        num_seconds=1,
        events=tuple(events),
        background_seed=int(rng.integers(2**32)),
    )


def _place(
    rng: np.random.Generator,
    others: list[Event],
    *,
    digit: int,
    sample: int,
    motion: Motion,
    first: int,
    last: int,
) -> Event:
    """Choose where an event begins: in view all the time, hiding others as little as may be."""
    seconds = last - first + 1
    best: tuple[float, Event] | None = None
    for _ in range(_NUM_PLACEMENTS):
        # What stays in view: 88 / 6 = 14.7 at the longest, above _MIN_SPEED.
        fastest = min(_MAX_SPEED, _ROOM / seconds)
        speed = 0.0 if motion == "still" else float(rng.uniform(_MIN_SPEED, fastest))
        dx, dy = _DIRECTIONS[motion]
        way = speed * seconds
        event = Event(
            digit=digit,
            sample=sample,
            motion=motion,
            first=first,
            last=last,
            # Where it begins leaves room for all of its way.
            x=float(rng.uniform(max(0.0, -dx * way), _ROOM - max(0.0, dx * way))),
            y=float(rng.uniform(max(0.0, -dy * way), _ROOM - max(0.0, dy * way))),
            speed=speed,
            colour=_bright(rng),
        )
        overlap = max((_overlap(event, other) for other in others), default=0.0)
        if best is None or overlap < best[0]:
            best = (overlap, event)
        if overlap <= _MAX_OVERLAP:
            break
    assert best is not None
    return best[1]


def _overlap(a: Event, b: Event) -> float:
    """Return the largest share of one glyph's square that the other covers, over time."""
    shares = [0.0]
    for second in set(a.seconds) & set(b.seconds):
        (ax, ay), (bx, by) = a.position(second), b.position(second)
        width, height = GLYPH_SIDE - abs(ax - bx), GLYPH_SIDE - abs(ay - by)
        shares.append(max(0.0, width) * max(0.0, height) / GLYPH_SIDE**2)
    return max(shares)


def _bright(rng: np.random.Generator) -> tuple[float, float, float]:
    red, green, blue = rng.permutation([1.0, *rng.uniform(0.45, 1.0, 2)])
    return float(red), float(green), float(blue)
