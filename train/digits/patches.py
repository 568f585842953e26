"""What each patch of a picture of MovingDigits shows, by which vision is trained and read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from train.digits.handwritten import GLYPH_SIDE
from train.digits.world import NUM_DIGITS, SIDE, Event, World

NO_DIGIT = NUM_DIGITS
"""Class of a patch that shows none."""
NUM_PLACES = 4
"""Of its digit's centre, each patch tells x and y from the patch, in half glyphs, and from the
middle of the picture, in half pictures; zeros where there is none."""
_CORE = 0.8
"""A patch shows a digit when its centre lies in the middle of the glyph, this share of its side."""


def patch_classes(world: World, second: float, *, side: int) -> NDArray[np.int64]:
    """Return int64 (side, side): the digit that each patch shows, or `NO_DIGIT`.

    Args:
        world: What is shown.
        second: When, from the beginning; may lie between two frames.
        side: Patches a side.
    """
    classes = np.full((side, side), NO_DIGIT)
    for event in world.shown(int(second)):  # later events are in front
        covered, _ = _covered(event, second, side)
        classes[covered] = event.digit
    return classes


def patch_places(world: World, second: float, *, side: int) -> NDArray[np.float32]:
    """Return float32 (side, side, 4), see `NUM_PLACES`."""
    places = np.zeros((side, side, NUM_PLACES), np.float32)
    for event in world.shown(int(second)):
        # As in `patch_classes`: what is in front overwrites what is behind.
        covered, distance = _covered(event, second, side)
        centre = (np.array(event.position(second)) + GLYPH_SIDE / 2) / SIDE * 2 - 1
        places[covered, :2] = distance[covered]
        places[covered, 2:] = centre
    return places


def _covered(
    event: Event, second: float, side: int
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    x, y = event.position(second)
    half = GLYPH_SIDE / 2
    # Of the patches, in pixels of the video; distances are in half glyphs.
    centres = (np.arange(side) + 0.5) * SIDE / side
    dx, dy = np.meshgrid((x + half - centres) / half, (y + half - centres) / half)
    distance = np.stack([dx, dy], axis=-1).astype(np.float32)
    return np.abs(distance).max(-1) < _CORE, distance
