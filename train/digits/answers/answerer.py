"""The shipped checkpoint that answers in text, which the small ones of other families begin from.

Shape letters: n frames, D its features of one, H width of its decoder.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from groundserve.families import open_checkpoint
from groundserve.families.base import TextCheckpoint
from groundserve.weights.checkpoint_place import SHIPPED_ANSWERER


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
