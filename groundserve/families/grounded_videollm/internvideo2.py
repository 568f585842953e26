"""InternVideo2's vision encoder: frames of a segment, each position attending to all.

Shape letters: U segments, F frames of one, S side of a frame in pixels, s patches a side,
P = F*s*s patches of a segment, C width of the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from groundserve.families.clip import ClipTowerConfig

_EPS = 1e-6
MEAN = (0.485, 0.456, 0.406)
"""Mean of pixels in [0, 1], by channel: ImageNet's, by which the encoder was trained."""
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class InternVideo2Config(ClipTowerConfig):
    """Sizes of an encoder, whose blocks have CLIP's."""

    kind: ClassVar[str] = "InternVideo2"
    num_frames: int
    """F."""

    @property
    def num_patches(self) -> int:
        """P."""
        return self.num_frames * self.side**2


class InternVideo2(nn.Module):
    """The encoder up to the output of its last block that runs; no norm follows.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `models/internvideo2.py`. The names within are
    those of the file.
    """

    def __init__(self, config: InternVideo2Config, attention_config: Any) -> None:
        """Make the layers; blocks read their attention from a config of transformers."""
        super().__init__()
        self.side, self.patch_size = config.side, config.patch_size
        size = (1, config.patch_size, config.patch_size)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, config.hidden_size, size, size)})
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.pos_embed = nn.Parameter(torch.empty(1, config.num_positions, config.hidden_size))
        self.blocks = nn.ModuleList(
            _Block(config, attention_config) for _ in range(config.num_hidden_layers)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode segments: uint8 (U, F, S, S, 3), RGB, already resized -> (U, P, C).

        In the weights' dtype: frame by frame, rows top to bottom; the class token's place is left
        out.
        """
        patches = self._embed_patches(pixels)
        class_token = self.cls_token.expand(patches.shape[0], -1, -1)
        hidden_states = torch.cat((class_token, patches), dim=1) + self.pos_embed
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return hidden_states[:, 1:]

    def _embed_patches(self, pixels: Tensor) -> Tensor:
        """Normalise, cut into patches and project: uint8 (U, F, S, S, 3) -> (U, P, C)."""
        # One matrix product over (row, column, channel), as the pixels lie: the same sum as the
        # reference's convolution.
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
        self.norm1 = LlamaRMSNorm(config.hidden_size, eps=_EPS)
        self.attn = _Attention(config, attention_config)
        self.ls1 = _Scale(config.hidden_size)
        self.norm2 = LlamaRMSNorm(config.hidden_size, eps=_EPS)
        self.mlp = _MLP(config)
        self.ls2 = _Scale(config.hidden_size)

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
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.q_norm = LlamaRMSNorm(config.hidden_size, eps=_EPS)
        self.k_norm = LlamaRMSNorm(config.hidden_size, eps=_EPS)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

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
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(F.gelu(self.fc1(hidden_states))))


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states * self.gamma
