"""EVA's vision transformer, of which VTG-LLM reads every token of the last layer.

Shape letters: n frames, S their side in pixels, P tokens of one (its patches and a class token),
D_v width, H heads, d head size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from groundserve.errors import UnsupportedError
from groundserve.families.parts import tower_heads

_EPSILON = 1e-6
# No file says how many heads there are.
_PUBLISHED_WIDTH, _PUBLISHED_HEADS, _PUBLISHED_BLOCKS = 1408, 16, 39
_BEHIND_BLOCKS = ("norm.", "fc_norm.", "head.")
_BLOCK = re.compile(r"blocks\.(\d+)\..+")


@dataclass(frozen=True, kw_only=True)
class EvaConfig:
    """The geometry of a tower."""

    hidden_size: int
    """D_v."""
    intermediate_size: int
    """Width between the two layers of a block's MLP."""
    num_hidden_layers: int
    num_attention_heads: int
    """H."""
    image_size: int
    """S."""
    patch_size: int

    @classmethod
    def from_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], *, where: str, num_heads: int | None = None
    ) -> EvaConfig:
        """Read the shapes of a tower's tensors, by their names in its file.

        Args:
            shapes: Of every tensor.
            where: The file, for errors.
            num_heads: By hand; of another width than EVA-g's nothing else says it.

        Raises:
            InvalidRequestError: Nothing says how many heads it has.
            UnsupportedError: It is no such tower.
        """
        needed = {
            "patch_embed.proj.weight": 4,
            "pos_embed": 3,
            "blocks.0.mlp.fc1.weight": 2,
        }
        for name, num_dims in needed.items():
            shape = shapes.get(name, ())
            if len(shape) != num_dims or 0 in shape:
                raise UnsupportedError(
                    f"{where}: it must have a {name} of {num_dims} dimensions, as EVA-g has"
                )
        width, _, patch_size, _ = shapes["patch_embed.proj.weight"]
        blocks = {int(match[1]) for name in shapes if (match := _BLOCK.fullmatch(name))}
        published = width == _PUBLISHED_WIDTH
        if published and len(blocks) != _PUBLISHED_BLOCKS:
            raise UnsupportedError(
                f"{where}: VTG-LLM reads {_PUBLISHED_BLOCKS} blocks of EVA-g, got {len(blocks)}"
            )
        return cls(
            hidden_size=width,
            intermediate_size=shapes["blocks.0.mlp.fc1.weight"][0],
            num_hidden_layers=len(blocks),
            num_attention_heads=tower_heads(
                width,
                part="eva",
                given=num_heads,
                described=_PUBLISHED_HEADS if published else None,
            ),
            # One position is the class token's.
            image_size=math.isqrt(shapes["pos_embed"][1] - 1) * patch_size,
            patch_size=patch_size,
        )

    @property
    def num_tokens(self) -> int:
        """P."""
        return (self.image_size // self.patch_size) ** 2 + 1

    def frame_flop(self) -> float:
        """Return the arithmetic of the tower for one frame; a multiply-add is 2."""
        n, width = self.num_tokens, self.hidden_size
        block = 2.0 * n * width * (4 * width + 2 * self.intermediate_size) + 4.0 * n * n * width
        return self.num_hidden_layers * block + 2.0 * (n - 1) * width * 3 * self.patch_size**2


class Eva(nn.Module):
    """The tower: frames -> every token of the last block, which no norm follows.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/models/eva_vit.py`. Names within are those of its file,
    but for `qkv.bias`, which stands there as two of its thirds.
    """

    def __init__(self, config: EvaConfig, attention: Any) -> None:
        """Make it.

        Args:
            config: Its geometry.
            attention: Of transformers, from which the blocks read their attention.
        """
        super().__init__()
        self.patch_size = config.patch_size
        # Convolution is what the reference computes; exported graphs have the same sum as one
        # matrix product.
        self.patches_as_matmul = False
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.pos_embed = nn.Parameter(torch.empty(1, config.num_tokens, config.hidden_size))
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, config.hidden_size, config.patch_size, config.patch_size)}
        )
        self.blocks = nn.ModuleList(
            _Block(config, attention) for _ in range(config.num_hidden_layers)
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode (n, 3, S, S) -> (n, P, D_v), the class token first."""
        patches = self._embed_patches(pixel_values)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        hidden_states = tokens + self.pos_embed
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return hidden_states

    def _embed_patches(self, pixel_values: Tensor) -> Tensor:
        projection = cast(nn.Conv2d, self.patch_embed["proj"])
        if not self.patches_as_matmul:
            # (n, D_v, s, s) -> (n, P - 1, D_v)
            return cast(Tensor, projection(pixel_values)).flatten(2).transpose(1, 2)
        size = self.patch_size
        side = pixel_values.shape[-1] // size
        patches = pixel_values.reshape(-1, 3, side, size, side, size)
        # (n, s, s, 3, p, p) -> (n, P - 1, 3*p*p)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(-1, side * side, 3 * size * size)
        bias = cast(Tensor, projection.bias)
        return patches @ projection.weight.flatten(1).T + bias


class _Block(nn.Module):
    def __init__(self, config: EvaConfig, attention: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.norm1 = nn.LayerNorm(width, eps=_EPSILON)
        self.attn = _Attention(width, config.num_attention_heads, attention)
        self.norm2 = nn.LayerNorm(width, eps=_EPSILON)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return (n, P, D_v)."""
        hidden_states = hidden_states + self.attn(self.norm1(hidden_states))
        inner = nn.functional.gelu(self.mlp["fc1"](self.norm2(hidden_states)))
        return cast(Tensor, hidden_states + self.mlp["fc2"](inner))


class _Attention(nn.Module):
    is_causal = False  # which an implementation of transformers asks for

    def __init__(self, width: int, num_heads: int, config: Any) -> None:
        super().__init__()
        self.config = config
        self.num_heads = num_heads
        self.scaling = (width // num_heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return (n, P, D_v), every token having read all."""
        # (n, P, 3*D_v) -> three of (n, H, P, d)
        query, key, value = (
            one.reshape(*one.shape[:2], self.num_heads, -1).transpose(1, 2)
            for one in self.qkv(hidden_states).chunk(3, dim=2)
        )
        attended, _ = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation](
            self, query, key, value, None, scaling=self.scaling
        )
        return cast(Tensor, self.proj(attended.flatten(2)))


def tower_of_file(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the tower reads of EVA's own file.

    Its last block is left out, and with it what stands behind: a norm, a classifier.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/models/eva_vit.py::create_eva_vit_g`, which makes 39 of
    40 blocks.
    """
    numbers = [int(match[1]) for name in tensors if (match := _BLOCK.fullmatch(name))]
    last = f"blocks.{max(numbers, default=0)}."
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith((last, *_BEHIND_BLOCKS))
    }


def joined_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a tower's tensors by the names of `Eva`: the bias of query, key and value as one.

    The key has none. A name whose other third is missing keeps its own, so that it is told.
    """
    joined = dict(tensors)
    for name, query in tensors.items():
        prefix, found, end = name.rpartition("attn.q_bias")
        value = tensors.get(f"{prefix}attn.v_bias")
        if found and not end and value is not None:
            del joined[name], joined[f"{prefix}attn.v_bias"]
            bias = torch.cat([query, torch.zeros_like(value), value])
            joined[f"{prefix}attn.qkv.bias"] = bias
    return joined
