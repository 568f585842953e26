"""The shipped checkpoint that answers in text, which the small ones of other families begin from.

Shape letters: n frames, D its features of one, H width of its decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from groundserve.families import open_checkpoint
from groundserve.families.base import TextCheckpoint
from groundserve.weights.checkpoint_place import SHIPPED_ANSWERER
from train.digits.handwritten import GLYPH_SIDE
from train.digits.world import NUM_DIGITS, SIDE, World

_LOGIT = 5.5
"""Nearly what it says of digits that it is sure of."""
_PLACE_SCALE = 4.0


class Answerer(NamedTuple):
    """What it sees in a frame, and what it does with that."""

    vision: nn.Module
    """uint8 frames (n, S, S, 3) -> (n, 1, D)."""
    front: nn.Module
    """(n, 1, D) -> rows of the decoder (n, H)."""
    decoder: LlamaForCausalLM
    tokenizer: Tokenizer

    def projection(self) -> tuple[Tensor, Tensor]:
        """Return how the front makes rows: weight (H, D) and bias (H,)."""
        front = cast(nn.Linear, self.front.linear)
        return front.weight, front.bias


def frame_vectors(world: World, seconds: Sequence[float]) -> Tensor:
    """Return float32 (n, D): what its tower would say of a world's frames if it made no mistakes.

    Of each digit a logit, whether it is shown, then of each where its middle lies, 0 where it is
    not shown.
    """
    vectors = torch.zeros(len(seconds), 3 * NUM_DIGITS)
    shown, places = vectors[:, :NUM_DIGITS], vectors[:, NUM_DIGITS:]
    shown[:] = -_LOGIT
    for frame, second in enumerate(seconds):
        for event in world.shown(int(second)):  # later events are in front
            middle = (torch.tensor(event.position(second)) + GLYPH_SIDE / 2) / SIDE * 2 - 1
            shown[frame, event.digit] = _LOGIT
            places[frame, 2 * event.digit : 2 * event.digit + 2] = _PLACE_SCALE * middle
    return vectors


def open_answerer() -> Answerer:
    """Open it in float32, frozen."""
    _, opened = open_checkpoint(SHIPPED_ANSWERER)
    checkpoint = cast(TextCheckpoint, opened)
    answerer = Answerer(
        checkpoint.load_vision(),
        checkpoint.load_front(),
        cast(LlamaForCausalLM, checkpoint.load_decoder()),
        checkpoint.load_tokenizer()[0],
    )
    for part in answerer[:3]:
        part.eval().requires_grad_(False)
    return answerer
