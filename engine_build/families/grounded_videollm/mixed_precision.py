"""The vision stage as a TensorRT engine computes it: products in 16 bit, sums over layers in 32.

Shape letters: U segments, F frames of one, S side of a frame in pixels, N positions of a tower,
C its width, H heads, h head size, P tokens of a segment, D width of the decoder.

In float32 stay what does in every plan (docs/gpu.md), and here means of patches, the norms of
queries and keys, and the scales of InternVideo2's branches. The reference runs CLIP and the
projectors so, under autocast to bf16; InternVideo2's stream it keeps in bf16.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine_build.families.mixed_layers import (
    EncoderLayer,
    LayerNorm,
    PatchEmbedding,
    Product,
    RMSNorm,
    attend,
    frozen,
    split_heads,
)
from engine_build.families.modules import MixedVisionModule
from groundserve.families.clip import ClipTower
from groundserve.families.grounded_videollm import internvideo2
from groundserve.families.grounded_videollm.internvideo2 import InternVideo2
from groundserve.families.grounded_videollm.vision import (
    CLIP_MEAN,
    CLIP_STD,
    VisionEncoder,
    pool_temporal,
)


class MixedVisionEncoder(MixedVisionModule):
    """`VisionEncoder` with 16-bit products and float16 features."""

    def __init__(self, model: VisionEncoder, *, dtype: torch.dtype) -> None:
        """Take over a model's weights.

        Args:
            model: In any dtype; float32 keeps norms, patches, scales and separators as they were
                trained.
            dtype: Of the products; float32 (then of the features too) gives the model that the
                others are compared with.
        """
        super().__init__()
        self.output_dtype = torch.float32 if dtype == torch.float32 else torch.float16
        self.spatial_tower = _MixedClip(model.clip, dtype)
        self.temporal_tower = _MixedInternVideo2(model.internvideo2, dtype)
        # Row separators and means of patches are the model's own, in float32.
        self.spatial = copy.deepcopy(model.spatial).to(torch.float32)
        self.spatial.projector = _MixedProjector(model.spatial.projector, dtype)
        self.temporal_projector = _MixedProjector(model.temporal_projector, dtype)
        self.temporal_side = model.internvideo2.side

    @property
    def layers(self) -> nn.ModuleList:  # type: ignore[override] # of two towers
        """Those that hold attention, of both towers."""
        return nn.ModuleList([*self.spatial_tower.layers, *self.temporal_tower.layers])

    def forward(self, temporal_pixels: Tensor, spatial_pixels: Tensor) -> Tensor:
        """Encode segments.

        Args:
            temporal_pixels: uint8 (U, F, S, S, 3), as `VisionEncoder.forward` takes them.
            spatial_pixels: uint8 (U, S, S, 3), likewise.

        Returns:
            float16 (U, P, D), whichever 16 bits the products have.
        """
        spatial, terminator = self.spatial(self.spatial_tower(spatial_pixels))
        patches = self.temporal_tower(temporal_pixels)
        temporal = self.temporal_projector(pool_temporal(patches, side=self.temporal_side))
        parts = [one.to(self.output_dtype) for one in (spatial, temporal, terminator)]
        return torch.cat(parts, dim=1)


class _MixedClip(nn.Module):
    def __init__(self, tower: ClipTower, dtype: torch.dtype) -> None:
        super().__init__()
        embeddings = tower.embeddings
        self.patches = PatchEmbedding(
            weight=embeddings.patch_embedding.weight,
            bias=None,
            class_token=embeddings.class_embedding,
            positions=embeddings.position_embedding.weight,
            mean=CLIP_MEAN,
            std=CLIP_STD,
        )
        self.norm = LayerNorm(tower.pre_layrnorm)
        self.layers = nn.ModuleList(
            EncoderLayer.of_transformers(cast(Any, one), dtype) for one in tower.layers
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (U, S, S, 3) -> float32 (U, N - 1, C), without the class token's place."""
        hidden_states = self.norm(self.patches(pixels))
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return cast(Tensor, hidden_states[:, 1:])


class _MixedInternVideo2(nn.Module):
    def __init__(self, tower: InternVideo2, dtype: torch.dtype) -> None:
        super().__init__()
        projection = cast(nn.Conv3d, tower.patch_embed["proj"])
        self.patches = PatchEmbedding(
            weight=projection.weight[:, :, 0],
            bias=projection.bias,
            class_token=tower.cls_token[0, 0],
            positions=tower.pos_embed[0],
            mean=internvideo2.MEAN,
            std=internvideo2.STD,
        )
        self.layers = nn.ModuleList(_InternVideo2Layer(one, dtype) for one in tower.blocks)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (U, F, S, S, 3) -> float32 (U, N - 1, C), without the class token's place."""
        hidden_states = self.patches(pixels)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return cast(Tensor, hidden_states[:, 1:])


class _InternVideo2Layer(nn.Module):
    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__()
        attention, mlp = block.attn, block.mlp
        self.dtype = dtype
        self.norm_1, self.norm_2 = RMSNorm(block.norm1), RMSNorm(block.norm2)
        self.qkv = Product(attention.qkv, dtype=dtype)
        self.num_heads = attention.qkv.in_features // attention.head_dim
        self.query_norm = _HeadsNorm(attention.q_norm, self.num_heads)
        self.key_norm = _HeadsNorm(attention.k_norm, self.num_heads)
        self.scale = attention.head_dim**-0.5
        self.out = Product(attention.proj, dtype=dtype)
        self.up, self.down = Product(mlp.fc1, dtype=dtype), Product(mlp.fc2, dtype=dtype)
        # Not in the weights: they start at 1e-5 in training, and weights of that size would be
        # below float16's normal numbers.
        self.scale_1 = frozen(block.ls1.gamma, torch.float32)
        self.scale_2 = frozen(block.ls2.gamma, torch.float32)

    def forward(self, residual: Tensor) -> Tensor:
        """Float32 (U, N, C) -> the same."""
        # Divided after all heads have moved, as in `EncoderLayer`.
        packed = split_heads(self.qkv(self.norm_1(residual)), 3 * self.num_heads)
        query, key, value = packed.chunk(3, dim=1)
        query = (self.query_norm(query) * self.scale).to(self.dtype)
        key = self.key_norm(key).to(self.dtype)
        attended = self.out(attend(query, key, value)).to(torch.float32)
        residual = residual + attended * self.scale_1
        inner = F.gelu(self.up(self.norm_2(residual)).to(torch.float32))
        summed: Tensor = residual + self.down(inner).to(torch.float32) * self.scale_2
        return summed


class _HeadsNorm(nn.Module):
    """A norm over all heads together, behind the split: five kernels a layer fewer than before it.

    The same sums, in another order.
    """

    def __init__(self, norm: Any, num_heads: int) -> None:
        super().__init__()
        # (H, 1, h)
        weight = norm.weight.unflatten(0, (num_heads, 1, -1))
        self.weight = frozen(weight, torch.float32)
        self.epsilon: float = norm.variance_epsilon

    def forward(self, heads: Tensor) -> Tensor:
        """(U, H, N, h) -> float32 (U, H, N, h)."""
        heads = heads.to(torch.float32)
        variance = (heads * heads).mean((1, 3), keepdim=True)
        return self.weight * (heads * torch.rsqrt(variance + self.epsilon))


class _MixedProjector(nn.Module):
    def __init__(self, projector: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.first = Product(projector.first, dtype=dtype)
        self.second = Product(projector.second, dtype=dtype)

    def forward(self, features: Tensor) -> Tensor:
        """(*, width) -> (*, D) in the products' dtype."""
        inner = F.gelu(self.first(features).to(torch.float32))
        return cast(Tensor, self.second(inner))
