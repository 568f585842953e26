"""The shipped checkpoint that answers in text, which the small ones of other families begin from.

Shape letters: n frames, D its features of one, H width of its decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from groundserve.families import open_checkpoint
from groundserve.families.base import TextCheckpoint
from groundserve.weights.checkpoint_place import SHIPPED_ANSWERER
from train.digits.answers.training import fast_precision


class Answerer(NamedTuple):
    """What it sees in a frame, and what it does with that."""

    vision: nn.Module
    """uint8 frames (n, S, S, 3) -> (n, 1, D)."""
    front: nn.Module
    """(n, 1, D) -> rows of the decoder (n, H)."""
    decoder: LlamaForCausalLM
    tokenizer: Tokenizer

    def see(self, frames: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Return float32 (n, D) of the frames."""
        with torch.no_grad(), fast_precision():
            seen: Tensor = self.vision(torch.from_numpy(np.stack(frames)))
        return seen[:, 0].float()

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
