"""What towers learn to say of a frame: which digits it shows, and where.

Shape letters: n frames, P patches, C ten digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from train.digits.handwritten import GLYPH_SIDE
from train.digits.render import NO_DIGIT, patch_classes
from train.digits.world import NUM_DIGITS, SIDE, World

NUM_SAID = 3 * NUM_DIGITS
"""Of each digit a logit, whether it is shown; then of each where its middle lies."""

_LOGIT = 5.5
"""Nearly what the shipped tower says of digits that it is sure of."""
_PLACE_SCALE = 4.0
"""How much larger than in [-1, 1] places are told, to be as large as the logits."""
_PLACE_WEIGHT = 0.5


def frame_vectors(world: World, seconds: Sequence[float]) -> Tensor:
    """Return float32 (n, 3*C), what is to be said of a world at some seconds.

    Of a digit that is not shown, the middle is 0.
    """
    vectors = torch.zeros(len(seconds), NUM_SAID)
    shown, places = vectors[:, :NUM_DIGITS], vectors[:, NUM_DIGITS:]
    shown[:] = -_LOGIT
    for frame, second in enumerate(seconds):
        for event in world.shown(int(second)):  # later events are in front
            middle = (torch.tensor(event.position(second)) + GLYPH_SIDE / 2) / SIDE * 2 - 1
            shown[frame, event.digit] = _LOGIT
            places[frame, 2 * event.digit : 2 * event.digit + 2] = _PLACE_SCALE * middle
    return vectors


def patch_vectors(world: World, seconds: Sequence[float], *, side: int) -> Tensor:
    """Return float32 (n, P, 3*C), the same of the digit that each patch shows, if any.

    Of a digit that is there twice, the later one's middle.
    """
    vectors = torch.zeros(len(seconds), side**2, NUM_SAID)
    for frame, second in enumerate(seconds):
        whole = frame_vectors(world, [second])[0]
        classes = torch.from_numpy(patch_classes(world, second, side=side)).flatten()
        shows = F.one_hot(classes, NUM_DIGITS + 1)[:, :NUM_DIGITS].bool()
        vectors[frame, :, :NUM_DIGITS] = torch.where(shows, _LOGIT, -_LOGIT)
        vectors[frame, :, NUM_DIGITS:] = whole[NUM_DIGITS:] * shows.repeat_interleave(2, dim=1)
    return vectors


def frame_loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Return how far what is said of frames or patches is from the truth, both (n, 3*C).

    Digits that are there weigh as much as the many that are not.
    """
    logits, told = said.split([NUM_DIGITS, 2 * NUM_DIGITS], dim=-1)  # type: ignore[no-untyped-call]
    present = wanted[:, :NUM_DIGITS] > 0
    wrong = F.binary_cross_entropy_with_logits(logits, present.float(), reduction="none")
    misplaced = (told - wanted[:, NUM_DIGITS:]).unflatten(1, (NUM_DIGITS, 2)).square().sum(-1)
    loss = wrong[present].mean() + wrong[~present].mean()
    loss = loss + _PLACE_WEIGHT * (misplaced[present].mean() + misplaced[~present].mean())
    return cast(Tensor, loss)


def patch_loss(told: Tensor, classes: Tensor) -> Tensor:
    """Patches with and without a digit weigh the same: (n, P, 11) and (n, side, side)."""
    classes = classes.flatten()
    wrong = F.cross_entropy(told.flatten(0, 1), classes, reduction="none")
    shows = classes != NO_DIGIT
    return wrong[shows].mean() + wrong[~shows].mean()
