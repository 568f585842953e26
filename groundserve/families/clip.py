"""CLIP's visual tower, which several families look through: sizes, patches and layers.

Shape letters: n images, S side in pixels of the square that the tower takes, P patches of it,
D_v width of the tower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import (
    CLIPEncoder,
    CLIPEncoderLayer,
    CLIPVisionEmbeddings,
)

from groundserve.errors import UnsupportedError
from groundserve.strict_json import shown
from groundserve.weights.tensors import check_num_layers

HEAD_SIZE = 64
"""Head size of every tower that OpenAI published."""
MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Statistics of pixels in [0, 1], by channel."""
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class ClipTowerConfig:
    """The sizes of a vision transformer, which are all that differs between those of OpenAI."""

    kind: ClassVar[str] = "vision tower"
    """What an error calls it."""
    num_class_tokens: ClassVar[int] = 1
    hidden_size: int
    """D_v."""
    intermediate_size: int
    """Width between the two layers of a block's MLP."""
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int
    """S."""
    patch_size: int

    def __post_init__(self) -> None:
        if (
            min(one for one in vars(self).values() if isinstance(one, int)) < 1
            or self.hidden_size % self.num_attention_heads
            or self.image_size < self.patch_size
        ):
            raise UnsupportedError(f"no {self.kind} has the sizes {shown(vars(self))}")
        check_num_layers(self.num_hidden_layers, where="a vision tower")

    @property
    def side(self) -> int:
        """Patches a side."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        """P."""
        return self.side**2

    @property
    def num_positions(self) -> int:
        """P, and one for the class token where there is one."""
        return self.num_patches + self.num_class_tokens

    def flop(self) -> float:
        """Return the arithmetic of patches and blocks; a multiply-add is 2."""
        return self.frame_flop(self.num_hidden_layers)

    def frame_flop(self, num_layers: int) -> float:
        """Return the same of patches and so many blocks alone."""
        n, width = self.num_positions, self.hidden_size
        # Q, K, V and the output, then the two of the MLP; scores and their product with V.
        block = 2.0 * n * width * (4 * width + 2 * self.intermediate_size) + 4.0 * n * n * width
        return num_layers * block + 2.0 * self.num_patches * width * 3 * self.patch_size**2


class ClipTower(nn.Module):
    """CLIP's visual tower up to the output of its last block, before any norm.

    Source: openai/CLIP d05afc4, `clip/model.py::VisionTransformer`. The names within are
    transformers'.
    """

    def __init__(self, config: ClipTowerConfig) -> None:
        super().__init__()
        tower = CLIPVisionConfig(**asdict(config))
        # Materialised softmax, as the fixtures' references ran; 16-bit and exported models set
        # another one.
        tower._attn_implementation = "eager"
        self.config = tower
        self.patches_as_matmul = False
        self.embeddings = CLIPVisionEmbeddings(tower)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=tower.layer_norm_eps)
        self.encoder = CLIPEncoder(tower)

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that hold attention."""
        return cast(nn.ModuleList, self.encoder.layers)

    def embed_pixels(self, pixel_values: Tensor) -> Tensor:
        """Return what the first block takes: (n, 3, S, S), normalised -> (n, P + 1, D_v)."""
        embeddings = self.embeddings
        embedded = embed_patches(
            embeddings.patch_embedding,
            pixel_values.to(embeddings.patch_embedding.weight.dtype),
            as_matmul=self.patches_as_matmul,
        )
        class_token = embeddings.class_embedding.expand(embedded.shape[0], 1, -1)
        tokens = torch.cat([class_token, embedded], dim=1)
        tokens = tokens + cast(Tensor, embeddings.position_embedding.weight)
        return cast(Tensor, self.pre_layrnorm(tokens))

    def encode_pixels(self, pixel_values: Tensor) -> Tensor:
        """Return what the last block gives, the class token first: (n, P + 1, D_v)."""
        embedded = self.embed_pixels(pixel_values)
        return cast(Tensor, self.encoder(inputs_embeds=embedded).last_hidden_state)


def embed_patches(projection: nn.Conv2d, pixel_values: Tensor, *, as_matmul: bool) -> Tensor:
    """Project patches of p x p pixels: (n, 3, S, S) -> (n, P, D_v).

    A convolution is what the references compute, the same sum `as_matmul` what exported graphs do.
    """
    if not as_matmul:
        # (n, D_v, s, s) -> (n, P, D_v)
        return cast(Tensor, projection(pixel_values)).flatten(2).transpose(1, 2)
    size = projection.kernel_size[0]
    side = pixel_values.shape[-1] // size
    # Like the convolution, leaves out the pixels behind the last whole patch.
    patches = pixel_values[:, :, : side * size, : side * size]
    patches = patches.reshape(-1, 3, side, size, side, size)
    # (n, s, s, 3, p, p) -> (n, P, 3*p*p)
    patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(-1, side * side, 3 * size * size)
    embedded = patches @ projection.weight.flatten(1).T
    return embedded if projection.bias is None else embedded + projection.bias


def layer_at(
    module: nn.Module, read: Tensor, normed_read: Tensor, normed: Tensor, *, attention: str
) -> Tensor:
    """Return the output of a layer of CLIP or SigLIP at R of the positions of its input.

    `read` (n, R, D_v) is the input there, `normed_read` the same behind the layer's first norm, and
    `normed` (n, *, D_v) the whole input behind it.
    """
    layer = cast(CLIPEncoderLayer, module)
    attend = layer.self_attn

    def heads(projected: Tensor) -> Tensor:
        # (n, *, D_v) -> (n, heads, *, head size)
        split = projected.reshape(*projected.shape[:2], -1, attend.head_dim)
        return split.transpose(1, 2)

    attended, _ = ALL_ATTENTION_FUNCTIONS[attention](
        attend,
        heads(attend.q_proj(normed_read)),
        heads(attend.k_proj(normed)),
        heads(attend.v_proj(normed)),
        None,
        scaling=attend.scale,
    )
    read = read + attend.out_proj(attended.flatten(2))
    return cast(Tensor, read + layer.mlp(layer.layer_norm2(read)))


def read_sizes(
    tensors: Mapping[str, Tensor], needed: Mapping[str, int], refusal: str
) -> dict[str, int]:
    """Return the sizes of `ClipTowerConfig` that tensors tell: all but layers and heads.

    Args:
        tensors: By name.
        needed: Name -> dimensions: of the projection of patches, of the positions of a picture, of
            the first layer of an MLP, in this order; then of others, which are checked alone.
        refusal: The error where one has not so many, with `{name}` and `{num_dims}`.
    """
    for name, num_dims in needed.items():
        if name not in tensors or tensors[name].ndim != num_dims or 0 in tensors[name].shape:
            raise UnsupportedError(refusal.format(name=name, num_dims=num_dims))
    patches, positions, mlp, *_ = (tensors[name].shape for name in needed)
    return {
        "hidden_size": patches[0],
        "intermediate_size": mlp[0],
        # One position is the class token's.
        "image_size": math.isqrt(positions[-2] - 1) * patches[-1],
        "patch_size": patches[-1],
    }
