"""The two stages of a toy model in PyTorch.

Shape letters: T frames, S image side in pixels, p side of a patch, N = (S / p)**2 patches of a
frame, L text tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from groundserve.families.modules import GroundingModule, VisionModule

PATCH = 8
"""p."""


class ToyVision(VisionModule):
    """Patches through one layer, then their mean."""

    def __init__(self, *, image_size: int, width: int) -> None:
        super().__init__()
        self.side = image_size // PATCH
        self.project = nn.Linear(3 * PATCH**2, width)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode uint8 (T, S, S, 3) -> (T, 1, D)."""
        num_frames = frames.shape[0]
        pixels = frames.to(self.project.weight.dtype) / 256  # [0, 1)
        patches = pixels.reshape(num_frames, self.side, PATCH, self.side, PATCH, 3)
        patches = patches.transpose(2, 3).reshape(num_frames, self.side**2, 3 * PATCH**2)
        return torch.relu(self.project(patches)).mean(dim=1, keepdim=True)


class ToyGrounding(GroundingModule):
    """The product of a frame's feature with the mean of the question's embeddings."""

    def __init__(self, *, vocab_size: int, width: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab_size, width)

    def forward(self, features: Tensor, text_ids: Tensor) -> Tensor:
        """Score (T, 1, D) for a question of int64 (L,): float32 (T,)."""
        question: Tensor = self.embed_tokens(text_ids).mean(dim=0)  # (D,)
        # (T, D): the mean over one token is that token.
        return (features.mean(dim=1) @ question).to(torch.float32)
