"""InternVideo2's vision encoder: frames of a segment, each position attending to all.

Shape letters: U segments, F frames of one, S side of a frame in pixels, s patches a side,
P = F*s*s patches of a segment, C width of the encoder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from groundserve.errors import UnsupportedError
from groundserve.families.grounded_videollm.tower_files import sizes, without_last_block
from groundserve.families.parts import tower_heads
from groundserve.strict_json import shown
from groundserve.weights.torch_archive import read_torch_file

_HEAD_SIZE = 88  # of the published encoder, whose file does not say it
_EPS = 1e-6
MEAN = (0.485, 0.456, 0.406)
"""Mean of pixels in [0, 1], by channel: ImageNet's, by which the encoder was trained."""
STD = (0.229, 0.224, 0.225)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # what can be stretched
# Positions of pictures and of the heads that were trained against other models, and these heads.
_UNREAD = re.compile(
    r"(img_pos_embed|clip_pos_embed|clip_img_pos_embed)"
    r"|(clip_projector|clip_decoder\.\d+|final_clip_decoder)\..+"
)


@dataclass(frozen=True, kw_only=True)
class InternVideo2Config:
    """Sizes of an encoder."""

    width: int
    """C."""
    mlp_width: int
    """Between the two layers of a block's MLP."""
    num_blocks: int
    """Blocks that run."""
    num_heads: int
    """Heads of each."""
    num_frames: int
    """F."""
    side: int
    """s."""
    patch_size: int

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1 or self.width % self.num_heads:
            raise UnsupportedError(f"no InternVideo2 has the sizes {shown(vars(self))}")

    @property
    def image_size(self) -> int:
        """S."""
        return self.side * self.patch_size

    @property
    def num_positions(self) -> int:
        """P, and one for the class token."""
        return self.num_frames * self.side**2 + 1

    def segment_flop(self) -> float:
        """Return the arithmetic for one segment; a multiply-add is 2."""
        n, width = self.num_positions, self.width
        block = 2.0 * n * width * (4 * width + 2 * self.mlp_width) + 4.0 * n * n * width
        return self.num_blocks * block + 2.0 * (n - 1) * width * 3 * self.patch_size**2


@dataclass(frozen=True, kw_only=True, eq=False)
class InternVideo2Source:
    """An encoder's file, without what the features do not need."""

    config: InternVideo2Config
    """Sizes with the blocks that run alone."""
    tensors: Mapping[str, Tensor]
    """By `InternVideo2`'s names, mapped into memory; positions are stretched to F frames."""

    @classmethod
    def open(
        cls, path: Path, *, num_frames: int, num_heads: int | None = None
    ) -> InternVideo2Source:
        """Read a file of the second stage."""
        run, num_blocks = without_last_block(
            read_torch_file(path), part="internvideo", blocks="blocks."
        )
        (width, _, _, _, patch_size), (_, num_positions, _), (_, num_of_frame, _), (mlp, _) = sizes(
            run,
            {
                "patch_embed.proj.weight": 5,
                "pos_embed": 3,
                "img_pos_embed": 3,
                "blocks.0.mlp.fc1.weight": 2,
            },
            part="internvideo",
        )
        config = InternVideo2Config(
            width=width,
            mlp_width=mlp,
            num_blocks=num_blocks,
            num_heads=tower_heads(width, part="internvideo", given=num_heads, head_size=_HEAD_SIZE),
            num_frames=num_frames,
            side=math.isqrt(max(num_of_frame - 1, 0)),
            patch_size=patch_size,
        )
        if num_positions <= config.side**2 or (num_positions - 1) % config.side**2:
            raise UnsupportedError(
                f"the part internvideo: pos_embed has {num_positions} positions, which are no "
                f"whole frames of {config.side} x {config.side} patches and a class token"
            )
        if len(run["pos_embed"]) != 1 or run["pos_embed"].dtype not in _FLOATS:
            raise UnsupportedError(
                "the part internvideo: pos_embed must be one table of floats of 16 bits or more, "
                f"got {tuple(run['pos_embed'].shape)} of {run['pos_embed'].dtype}"
            )
        tensors = {name: tensor for name, tensor in run.items() if not _UNREAD.fullmatch(name)}
        tensors["pos_embed"] = stretched(run["pos_embed"], config)
        return cls(config=config, tensors=tensors)


def stretched(positions: Tensor, config: InternVideo2Config) -> Tensor:
    """Stretch the positions of fewer or more frames to F, linearly, in the dtype that they have.

    Args:
        positions: (1, 1 + F'*s*s, C), the class token's first.
        config: Of the encoder.

    Returns:
        (1, 1 + P, C).

    Source: WHB139426/Grounded-Video-LLM e26da4e, `models/internvideo2.py`.
    """
    of_class, of_patches = positions[:, :1], positions[0, 1:]
    # (F'*s*s, C) -> (s*s, C, F')
    by_time = torch.unflatten(of_patches, 0, (-1, config.side**2)).permute(1, 2, 0)
    by_time = F.interpolate(by_time, size=config.num_frames, mode="linear", align_corners=False)
    return torch.cat((of_class, by_time.permute(2, 0, 1).flatten(0, 1)[None]), dim=1)


class InternVideo2(nn.Module):
    """The encoder up to the output of its last block that runs; no norm follows.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `models/internvideo2.py`. The names within are
    those of the file.
    """

    def __init__(self, config: InternVideo2Config, attention_config: Any) -> None:
        """Make the layers.

        Args:
            config: Sizes.
            attention_config: Of transformers, from which the blocks read their attention.
        """
        super().__init__()
        self.side, self.patch_size = config.side, config.patch_size
        size = (1, config.patch_size, config.patch_size)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, config.width, size, size)})
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.empty(1, config.num_positions, config.width))
        self.blocks = nn.ModuleList(
            _Block(config, attention_config) for _ in range(config.num_blocks)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode segments.

        Args:
            pixels: uint8 (U, F, S, S, 3), RGB, already resized.

        Returns:
            (U, P, C) in the weights' dtype: frame by frame, rows top to bottom; the class token's
            place is left out.
        """
        patches = self._embed_patches(pixels)
        class_token = self.cls_token.expand(patches.shape[0], -1, -1)
        hidden_states = torch.cat((class_token, patches), dim=1) + self.pos_embed
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return hidden_states[:, 1:]

    def _embed_patches(self, pixels: Tensor) -> Tensor:
        """Normalise, cut into patches and project: uint8 (U, F, S, S, 3) -> (U, P, C).

        One matrix product over (row, column, channel), as the pixels lie: the same sum as the
        reference's convolution.
        """
        proj = cast(nn.Conv3d, self.patch_embed["proj"])
        values = normalized(pixels, mean=MEAN, std=STD).to(proj.weight.dtype)
        s, p = self.side, self.patch_size
        # (U, F, s, p, s, p, 3) -> (U, F, s, s, p, p, 3) -> (U, P, p*p*3)
        patches = values.reshape(*values.shape[:2], s, p, s, p, 3).transpose(3, 4)
        patches = patches.flatten(4).flatten(1, 3)
        weight = proj.weight[:, :, 0].permute(0, 2, 3, 1).flatten(1)  # (C, p*p*3)
        return patches @ weight.T + cast(Tensor, proj.bias)


def normalized(
    pixels: Tensor, *, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Return float32 (*, 3) of uint8: to [0, 1], then by channel."""
    of_channel = [torch.tensor(one, device=pixels.device) for one in (mean, std)]
    return (pixels.to(torch.float32) / 255.0 - of_channel[0]) / of_channel[1]


class _Block(nn.Module):
    """Attention and MLP, each behind a norm, in front of a scale and beside the stream."""

    def __init__(self, config: InternVideo2Config, attention_config: Any) -> None:
        super().__init__()
        self.norm1 = LlamaRMSNorm(config.width, eps=_EPS)
        self.attn = _Attention(config, attention_config)
        self.ls1 = _Scale(config.width)
        self.norm2 = LlamaRMSNorm(config.width, eps=_EPS)
        self.mlp = _MLP(config)
        self.ls2 = _Scale(config.width)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(U, P + 1, C) -> the same."""
        hidden_states = hidden_states + self.ls1(self.attn(self.norm1(hidden_states)))
        return cast(Tensor, hidden_states + self.ls2(self.mlp(self.norm2(hidden_states))))


class _Attention(nn.Module):
    """Attention among all positions; queries and keys have a norm over all heads together."""

    is_causal = False

    def __init__(self, config: InternVideo2Config, attention_config: Any) -> None:
        super().__init__()
        self.config = attention_config
        self.head_dim = config.width // config.num_heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.q_norm = LlamaRMSNorm(config.width, eps=_EPS)
        self.k_norm = LlamaRMSNorm(config.width, eps=_EPS)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(U, P + 1, C) -> the same."""
        query, key, value = self.qkv(hidden_states).chunk(3, dim=-1)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        heads = [
            # (U, P + 1, C) -> (U, heads, P + 1, head size)
            torch.unflatten(one, -1, (-1, self.head_dim)).transpose(1, 2)
            for one in (self.q_norm(query), self.k_norm(key), value)
        ]
        attended, _ = attend(self, *heads, None, scaling=self.head_dim**-0.5)
        return cast(Tensor, self.proj(attended.flatten(2)))


class _MLP(nn.Module):
    def __init__(self, config: InternVideo2Config) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_width)
        self.fc2 = nn.Linear(config.mlp_width, config.width)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(F.gelu(self.fc1(hidden_states))))


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states * self.gamma
