"""A checkpoint of VTimeLLM's, whose vision stage and front are others."""

from __future__ import annotations

import torch
from torch import nn

from groundserve.families.blocks import MEANS, PEAKS, BlocksSpec
from groundserve.families.modules import FrontModule, VisionModule
from groundserve.families.vtimellm import checkpoint


class BlocksVision(VisionModule):
    """Of each half of a frame two tensors: colors' means, and the darkest and the lightest."""

    def __init__(self) -> None:
        super().__init__()
        self.unit = nn.Parameter(torch.tensor(1.0))

    def forward(self, frames):
        """Return (U, 2, MEANS + PEAKS): the tensors side by side."""
        halves = frames.to(self.unit.dtype).unflatten(1, (2, -1)).flatten(2, 3)  # (U, 2, n, 3)
        halves = halves * self.unit / 256
        means, values = halves.mean(dim=2), halves.flatten(2)
        peaks = torch.stack([values.amin(dim=2), values.amax(dim=2)], dim=2)
        return torch.cat([means, peaks], dim=-1)


class BlocksFront(FrontModule):
    """Each tensor has a projection of its own."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.of_means, self.of_peaks = nn.Linear(MEANS, hidden_size), nn.Linear(PEAKS, hidden_size)

    def forward(self, features):
        means, peaks = features.to(self.of_means.weight.dtype).split([MEANS, PEAKS], dim=-1)
        return (self.of_means(means) * torch.tanh(self.of_peaks(peaks))).flatten(0, 1)


class Checkpoint(checkpoint.Checkpoint):
    def load_vision(self, *, dtype=torch.float32, device="cpu"):
        return BlocksVision().to(device, dtype).requires_grad_(False)

    def load_front(self, *, dtype=torch.float32, device="cpu"):
        torch.manual_seed(0)
        return BlocksFront(self.config.hidden_size).to(device, dtype).requires_grad_(False)

    def model_spec(self, *, pad_token_id):
        return BlocksSpec(
            max_tokens=self.config.max_position_embeddings,
            hidden_size=self.config.hidden_size,
            end_token_id=self.end_token_id,
        )

    def vision_flop(self):
        return 0.0
