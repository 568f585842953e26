"""EVA's vision transformer, of which VTG-LLM reads every token of the last layer.

Shape letters: n frames, S their side in pixels, P tokens of one (its patches and a class token),
D_v width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import InstructBlipVisionConfig
from transformers.models.instructblip.modeling_instructblip import (
    InstructBlipEncoder,
    InstructBlipVisionEmbeddings,
)

from groundserve.errors import UnsupportedError
from groundserve.families.clip import ClipTowerConfig, embed_patches, read_sizes
from groundserve.families.parts import tower_heads

_PUBLISHED_WIDTH, _PUBLISHED_HEADS, _PUBLISHED_BLOCKS = 1408, 16, 39
_BEHIND_BLOCKS = ("norm.", "fc_norm.", "head.")
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
# Name in the file -> transformers', outside of the blocks and within one.
_NAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
    "patch_embed.proj.bias": "embeddings.patch_embedding.bias",
}
_BLOCK_NAMES = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
}


@dataclass(frozen=True, kw_only=True)
class EvaConfig(ClipTowerConfig):
    """The geometry of a tower, which has a block of CLIP's sizes."""

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], *, where: str, num_heads: int | None = None
    ) -> EvaConfig:
        """Read the shapes of a tower's tensors, by their names in its file.

        Of another width than EVA-g's nothing says how many heads there are but `num_heads`.
        """
        sizes = read_sizes(
            tensors,
            {"patch_embed.proj.weight": 4, "pos_embed": 3, "blocks.0.mlp.fc1.weight": 2},
            f"{where}: it must have a {{name}} of {{num_dims}} dimensions, as EVA-g has",
        )
        blocks = {int(match[1]) for name in tensors if (match := _BLOCK.fullmatch(name))}
        width = sizes["hidden_size"]
        published = width == _PUBLISHED_WIDTH
        if published and len(blocks) != _PUBLISHED_BLOCKS:
            raise UnsupportedError(
                f"{where}: VTG-LLM reads {_PUBLISHED_BLOCKS} blocks of EVA-g, got {len(blocks)}"
            )
        return cls(
            **sizes,
            num_hidden_layers=len(blocks),
            num_attention_heads=tower_heads(
                width,
                part="eva",
                given=num_heads,
                described=_PUBLISHED_HEADS if published else None,
            ),
        )


class Eva(nn.Module):
    """The tower: frames -> every token of the last block, which no norm follows.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/models/eva_vit.py`, whose blocks are InstructBLIP's.
    """

    def __init__(self, config: EvaConfig) -> None:
        super().__init__()
        self.config = InstructBlipVisionConfig(**asdict(config))
        self.config._attn_implementation = "sdpa"
        self.patches_as_matmul = False
        self.embeddings = InstructBlipVisionEmbeddings(self.config)
        self.encoder = InstructBlipEncoder(self.config)

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that hold attention."""
        return cast(nn.ModuleList, self.encoder.layers)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode (n, 3, S, S) -> (n, P, D_v), the class token first."""
        embeddings = self.embeddings
        patches = embed_patches(
            embeddings.patch_embedding, pixel_values, as_matmul=self.patches_as_matmul
        )
        class_token = embeddings.class_embedding.expand(patches.shape[0], -1, -1)
        tokens = torch.cat([class_token, patches], dim=1) + embeddings.position_embedding
        return cast(Tensor, self.encoder(inputs_embeds=tokens).last_hidden_state)


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


def renamed_tower(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield a tower's tensors by the names of `Eva`: the bias of query, key and value as one.

    The key has none. A name whose other third is missing keeps its own, so that it is told.
    """
    for name, tensor in tensors.items():
        block = _BLOCK.fullmatch(name)
        if block is None:
            yield _NAMES.get(name, name), tensor
            continue
        layer, _, kind = block[2].rpartition(".")
        prefix = f"encoder.layers.{block[1]}."
        value = tensors.get(f"blocks.{block[1]}.attn.v_bias")
        query = tensors.get(f"blocks.{block[1]}.attn.q_bias")
        if query is None or value is None or kind not in ("q_bias", "v_bias"):
            yield f"{prefix}{_BLOCK_NAMES.get(layer, layer)}.{kind}", tensor
        elif kind == "q_bias":
            joined = torch.cat([query, torch.zeros_like(value), value])
            yield f"{prefix}self_attn.qkv.bias", joined
