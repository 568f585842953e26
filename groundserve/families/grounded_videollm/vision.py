"""The vision stage: a segment's frames through both towers and projectors, the decoder's block.

Shape letters: U segments, F frames of one, S side of a frame in pixels, s patches a side of the key
frame, C_s and C_t width of the spatial and of the temporal tower, N_s and N_t tokens of each,
P = N_s + N_t + 1 tokens of a segment, D width of the decoder.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from groundserve.errors import UnsupportedError
from groundserve.families.clip import MEAN, STD, ClipTower, ClipTowerConfig
from groundserve.families.grounded_videollm.internvideo2 import (
    InternVideo2,
    InternVideo2Config,
    normalized,
)
from groundserve.families.grounded_videollm.plan import Llm
from groundserve.families.modules import FrontModule, VisionModule

_TEMPORAL_SIDE = 4
"""Tokens a side of each of a segment's frames."""
_NEIGHBOURS: dict[Llm, int] = {"phi3.5": 2, "llama3": 3}
"""Patches a side of the key frame that become one token."""


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Sizes of the stage."""

    llm: Llm
    clip: ClipTowerConfig
    internvideo2: InternVideo2Config
    hidden_size: int
    """D."""

    def __post_init__(self) -> None:
        for name, side, by in (
            ("clip", self.clip.side, _NEIGHBOURS[self.llm]),
            ("internvideo", self.internvideo2.side, _TEMPORAL_SIDE),
        ):
            if side < by or side % by:
                raise UnsupportedError(
                    f"the part {name} must have a multiple of {by} patches a side, got {side}"
                )

    @property
    def num_spatial_tokens(self) -> int:
        """N_s, with a separator behind each row for Phi-3.5."""
        side = self.clip.side // _NEIGHBOURS[self.llm]
        return side * (side + 1) if self.llm == "phi3.5" else side**2

    @property
    def num_temporal_tokens(self) -> int:
        """N_t."""
        return self.internvideo2.num_frames * _TEMPORAL_SIDE**2

    @property
    def spatial_width(self) -> int:
        """Width of what the spatial projector takes."""
        merged = _NEIGHBOURS[self.llm] ** 2 if self.llm == "phi3.5" else 1
        return merged * self.clip.hidden_size

    def segment_flop(self) -> float:
        """Return the arithmetic for one segment; a multiply-add is 2."""
        towers = self.clip.flop() + self.internvideo2.flop()
        width = self.hidden_size
        # Phi-3.5's terminator is projected as well.
        projected = self.num_spatial_tokens + (self.llm == "phi3.5")
        spatial = projected * (self.spatial_width + width)
        temporal = self.num_temporal_tokens * (self.internvideo2.hidden_size + width)
        return towers + 2.0 * width * (spatial + temporal)


class VisionEncoder(VisionModule):
    """Both towers, what thins out their patches, and both projectors.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `models/llava_next_video.py`.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.clip = ClipTower(config.clip)
        # The scores of 2049 positions to as many would be 0.3 GB a segment.
        self.clip.config._attn_implementation = "sdpa"
        # One choice of attention for both towers.
        self.config = self.clip.config
        self.internvideo2 = InternVideo2(config.internvideo2, self.config)
        self.spatial, self.temporal_projector = new_projectors(config)

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that hold attention, of both towers."""
        return nn.ModuleList([*self.clip.layers, *self.internvideo2.blocks])

    def prepare_export(self) -> None:
        """Embed patches by matrix products."""
        self.clip.patches_as_matmul = True

    def forward(self, temporal_pixels: Tensor, spatial_pixels: Tensor) -> Tensor:
        """Encode segments: uint8 (U, F, S, S, 3) and the key frame's (U, S, S, 3) -> (U, P, D).

        In the weights' dtype: tokens of the key frame, of all frames, the terminator.
        """
        patches, temporal = self.see(temporal_pixels, spatial_pixels)
        spatial, terminator = self.spatial(patches)
        return torch.cat((spatial, self.temporal_projector(temporal), terminator), dim=1)

    def see(self, temporal_pixels: Tensor, spatial_pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the projectors take: patches (U, s*s, C_s) and tokens (U, N_t, C_t)."""
        temporal = pool_temporal(self.internvideo2(temporal_pixels), side=self.internvideo2.side)
        return self._encode_key_frames(spatial_pixels), temporal

    def _encode_key_frames(self, pixels: Tensor) -> Tensor:
        """Return patches without the class token's place: uint8 (U, S, S, 3) -> (U, s*s, C_s)."""
        values = normalized(pixels, mean=MEAN, std=STD)
        return self.clip.encode_pixels(values.permute(0, 3, 1, 2))[:, 1:]


def new_projectors(config: VisionConfig) -> tuple[nn.Module, nn.Module]:
    """Return the spatial projector, with what stands between tokens, and the temporal one."""
    spatial = {"phi3.5": _MergedSpatial, "llama3": _PooledSpatial}[config.llm]
    return (
        spatial(config),
        _projector(config.internvideo2.hidden_size, config.hidden_size),
    )


class Front(FrontModule):
    """Segments one behind the other; features are the decoder's rows already."""

    def forward(self, features: Tensor) -> Tensor:
        """Flatten (U, P, D) -> (U * P, D)."""
        return features.flatten(0, 1)


class _MergedSpatial(nn.Module):
    """Phi-3.5's: 2 x 2 patches side by side, a separator behind each row, all projected."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.side = config.clip.side
        self.row_separator = nn.Parameter(torch.empty(config.spatial_width))
        self.terminator = nn.Parameter(torch.empty(config.spatial_width))
        self.projector = _projector(config.spatial_width, config.hidden_size)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(U, s*s, C_s) -> (U, N_s, D) and the terminator (U, 1, D)."""
        half = self.side // 2
        # (U, s/2, 2, s/2, 2, C_s) -> (U, s/2, s/2, 2, 2, C_s) -> (U, s/2, s/2, 4*C_s)
        merged = torch.unflatten(patches, 1, (half, 2, half, 2)).transpose(2, 3).flatten(3)
        separators = self.row_separator.expand(patches.shape[0], half, 1, -1)
        rows = torch.cat((merged, separators), dim=2).flatten(1, 2)
        terminator = self.terminator.expand(patches.shape[0], 1, -1)
        projected = self.projector(torch.cat((rows, terminator), dim=1))
        return projected[:, :-1], projected[:, -1:]


class _PooledSpatial(nn.Module):
    """Llama-3's: means of 3 x 3 patches, projected; the terminator is of the decoder's width."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.side = config.clip.side
        self.terminator = nn.Parameter(torch.empty(config.hidden_size))
        self.projector = _projector(config.spatial_width, config.hidden_size)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(U, s*s, C_s) -> (U, N_s, D) and the terminator (U, 1, D)."""
        patches = torch.unflatten(patches, 1, (1, self.side, self.side))
        pooled = _pool(patches, self.side // _NEIGHBOURS["llama3"]).flatten(1, 3)
        return self.projector(pooled), self.terminator.expand(patches.shape[0], 1, -1)


def _projector(width: int, hidden_size: int) -> nn.Sequential:
    first, second = nn.Linear(width, hidden_size), nn.Linear(hidden_size, hidden_size)
    return nn.Sequential(OrderedDict(first=first, gelu=nn.GELU(), second=second))


def pool_temporal(patches: Tensor, *, side: int) -> Tensor:
    """Thin the patches of all frames out: (U, F*s*s, C_t) -> (U, N_t, C_t)."""
    frames = torch.unflatten(patches, 1, (-1, side, side))
    return _pool(frames, _TEMPORAL_SIDE).flatten(1, 3)


def _pool(patches: Tensor, side: int) -> Tensor:
    """Return means of squares of patches: (U, F, s, s, C) -> (U, F, side, side, C)."""
    by = patches.shape[2] // side
    squares = patches.reshape(*patches.shape[:2], side, by, side, by, patches.shape[-1])
    return squares.mean(dim=(3, 5))
