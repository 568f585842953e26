"""The vision stage as a TensorRT engine computes it: products in 16 bit, sums over layers in 32.

Shape letters: n frames, S their side in pixels, Q queries, L tokens of a frame's sentence,
R = Q + L, P tokens of the tower, D_v their width, D width of the Q-Former, H heads, h head size.

In float32 stay what does in every plan (docs/gpu.md): patches with positions, the residual
streams, norms and activations. It is also what the reference keeps in float32, under autocast to
fp16 with the tower's weights in fp16.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine_build.families.mixed_layers import (
    EncoderLayer,
    LayerNorm,
    PatchEmbedding,
    Product,
    attend,
    frozen,
    split_heads,
)
from engine_build.families.modules import MixedVisionModule
from groundserve.families.vtgllm.eva import Eva
from groundserve.families.vtgllm.q_former import QFormer
from groundserve.families.vtgllm.vision import MEAN, STD, VisionEncoder


class MixedVisionEncoder(MixedVisionModule):
    """`VisionEncoder` with 16-bit products and float16 features."""

    def __init__(self, model: VisionEncoder, *, dtype: torch.dtype) -> None:
        """Take over a model's weights.

        Args:
            model: In any dtype; float32 keeps norms, patches and queries as they were trained.
            dtype: Of the products; float32 (then of the features too) gives the model that the
                others are compared with.
        """
        super().__init__()
        self.output_dtype = torch.float32 if dtype == torch.float32 else torch.float16
        tower = model.visual_encoder
        self.patches = _patch_embedding(tower)
        self.tower_layers = nn.ModuleList(_tower_layer(one, dtype) for one in tower.blocks)
        self.norm = LayerNorm(model.ln_vision)
        self.queries = frozen(model.query_tokens, torch.float32)  # (1, Q, D)
        self.q_former = _MixedQFormer(model.q_former, dtype)

    @property
    def layers(self) -> nn.ModuleList:  # type: ignore[override] # of two stacks
        """Those that hold attention: a layer of the Q-Former that reads the tower has two."""
        return nn.ModuleList([*self.tower_layers, *self.q_former.attentions])

    def forward(self, frames: Tensor, frame_text_ids: Tensor | None = None) -> Tensor:
        """Encode frames.

        Args:
            frames: uint8 (n, S, S, 3), RGB.
            frame_text_ids: As `VisionEncoder.forward` takes them.

        Returns:
            float16 (n, R, D), whichever 16 bits the products have.
        """
        hidden_states = self.patches(frames)
        for layer in self.tower_layers:
            hidden_states = layer(hidden_states)
        queries = self.queries.expand(frames.shape[0], -1, -1)
        read = self.norm(hidden_states)
        return cast(Tensor, self.q_former(queries, read, frame_text_ids)).to(self.output_dtype)


def _patch_embedding(tower: Eva) -> PatchEmbedding:
    projection = cast(nn.Conv2d, tower.patch_embed["proj"])
    return PatchEmbedding(
        weight=projection.weight,
        bias=projection.bias,
        class_token=tower.cls_token[0, 0],
        positions=tower.pos_embed[0],
        mean=MEAN,
        std=STD,
    )


def _tower_layer(block: Any, dtype: torch.dtype) -> EncoderLayer:
    return EncoderLayer(
        norms=(block.norm1, block.norm2),
        qkv=(block.attn.qkv,),
        out=block.attn.proj,
        mlp=(block.mlp["fc1"], block.mlp["fc2"]),
        activation=nn.GELU(),
        num_heads=block.attn.num_heads,
        dtype=dtype,
    )


class _MixedQFormer(nn.Module):
    """`QFormer`: a norm stands behind each sum, so the stream is what the norms give."""

    def __init__(self, model: QFormer, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = LayerNorm(cast(nn.LayerNorm, model.embeddings["LayerNorm"]))
        self.words: nn.Parameter | None = None
        self.places: nn.Parameter | None = None
        if "word_embeddings" in model.embeddings:
            words, places = (
                cast(nn.Embedding, model.embeddings[name])
                for name in ("word_embeddings", "position_embeddings")
            )
            self.words = frozen(words.weight, torch.float32)
            self.places = frozen(places.weight, torch.float32)
        self.layers = nn.ModuleList(_QFormerLayer(one, dtype) for one in model.layers)

    @property
    def attentions(self) -> list[nn.Module]:
        """One of each layer among the rows, and where it has one, another to the tower."""
        layers = cast(list[_QFormerLayer], list(self.layers))
        found = [one for layer in layers for one in (layer.attention, layer.crossing)]
        return [one for one in found if one is not None]

    def forward(self, queries: Tensor, read: Tensor, text_ids: Tensor | None) -> Tensor:
        """Float32 (n, Q, D), (n, P, D_v), (n, L) -> float32 (n, R, D)."""
        num_queries = queries.shape[1]
        rows = queries
        if text_ids is not None:
            assert self.words is not None, "a Q-Former without words reads no sentence"
            assert self.places is not None, "words have places"
            words = F.embedding(text_ids.long(), self.words)
            rows = torch.cat([queries, words + self.places[: text_ids.shape[1]]], dim=1)
        hidden_states = self.norm(rows)
        for layer in self.layers:
            hidden_states = layer(hidden_states, read, num_queries)
        return cast(Tensor, hidden_states)


class _QFormerLayer(nn.Module):
    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.attention = _Attention(layer.attention, dtype)
        self.crossing: _Attention | None = None
        if layer.crossattention is not None:
            self.crossing = _Attention(layer.crossattention, dtype)
        self.of_queries = _MLP(layer.intermediate_query, layer.output_query, dtype)
        self.of_words: _MLP | None = None
        if layer.intermediate is not None:
            self.of_words = _MLP(layer.intermediate, layer.output, dtype)

    def forward(self, hidden_states: Tensor, read: Tensor, num_queries: int) -> Tensor:
        """Float32 (n, R, D) -> the same."""
        hidden_states = self.attention(hidden_states, hidden_states)
        queries, words = hidden_states[:, :num_queries], hidden_states[:, num_queries:]
        if self.crossing is not None:
            queries = self.crossing(queries, read)
        queries = self.of_queries(queries)
        if self.of_words is None:
            return cast(Tensor, queries)
        return torch.cat([queries, self.of_words(words)], dim=1)


class _Attention(nn.Module):
    def __init__(self, attention: Any, dtype: torch.dtype) -> None:
        super().__init__()
        heads = attention.self
        self.num_heads, self.scale = heads.num_heads, heads.scaling
        self.query = Product(heads.query, dtype=dtype)
        self.key_value = Product(heads.key, heads.value, dtype=dtype)
        self.out = Product(attention.output.dense, dtype=dtype)
        self.norm = LayerNorm(attention.output.LayerNorm)

    def forward(self, hidden_states: Tensor, read: Tensor) -> Tensor:
        """Float32 (n, R, D) and what each row reads of -> float32 (n, R, D)."""
        query = split_heads(self.query(hidden_states), self.num_heads)
        # Divided after the heads have moved, as in `EncoderLayer`.
        key, value = split_heads(self.key_value(read), 2 * self.num_heads).chunk(2, dim=1)
        attended = self.out(attend(query * self.scale, key, value))
        return cast(Tensor, self.norm(attended.to(torch.float32) + hidden_states))


class _MLP(nn.Module):
    def __init__(self, up: Any, down: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.up, self.down = Product(up.dense, dtype=dtype), Product(down.dense, dtype=dtype)
        self.norm = LayerNorm(down.LayerNorm)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Float32 (n, *, D) -> the same."""
        inner = F.gelu(self.up(hidden_states).to(torch.float32))
        return cast(Tensor, self.norm(self.down(inner).to(torch.float32) + hidden_states))
