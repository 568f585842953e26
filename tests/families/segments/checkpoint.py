"""A checkpoint of VTimeLLM's, whose vision stage and front are others."""

from __future__ import annotations

import torch
from torch import nn

from groundserve.families.modules import FrontModule, VisionModule
from groundserve.families.segments import NUM_FRAMES, SegmentsSpec
from groundserve.families.vtimellm.checkpoint import Checkpoint


class SegmentsVision(VisionModule):
    """Of a unit two tokens: red of its frames; colors of its key frame, and what is told of it."""

    def __init__(self, unit: float) -> None:
        super().__init__()
        self.unit = nn.Parameter(torch.tensor(unit))

    def forward(self, clips, keys, ordinals, scale):
        """Return (U, 2, 8); each mean is of a power of two of bytes."""
        dtype = self.unit.dtype
        red = clips[..., 0].to(dtype).mean(dim=(2, 3))  # (U, 8)
        colors = keys.to(dtype).mean(dim=(1, 2))  # (U, 3)
        told = ordinals.to(dtype).sum(dim=1, keepdim=True) * scale.to(dtype)  # (U, 1)
        rest = torch.zeros_like(red)[:, 4:]
        return torch.stack([red, torch.cat([colors, told, rest], dim=1)], dim=1) * self.unit


class SegmentsFront(FrontModule):
    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(NUM_FRAMES, hidden_size)

    def forward(self, features):
        return self.linear(features.to(self.linear.weight.dtype) / 256).flatten(0, 1)


class SegmentsCheckpoint(Checkpoint):
    def load_vision(self, *, dtype=torch.float32, device="cpu"):
        return SegmentsVision(1.0).to(device, dtype).requires_grad_(False)

    def load_front(self, *, dtype=torch.float32, device="cpu"):
        torch.manual_seed(0)
        return SegmentsFront(self.config.hidden_size).to(device, dtype).requires_grad_(False)

    def model_spec(self, *, pad_token_id):
        return SegmentsSpec(
            max_tokens=self.config.max_position_embeddings,
            hidden_size=self.config.hidden_size,
            end_token_id=self.end_token_id,
        )

    def vision_flop(self):
        return 0.0
