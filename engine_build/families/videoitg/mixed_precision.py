"""The models as TensorRT engines compute them: products in 16 bit, sums over layers in 32.

Shape letters: n frames, S image side or tokens, s patches a side, P = s*s patches, g grid side,
D_v vision width, D decoder width, H heads, K key-value heads, h head size.

In 16 bit: the weights and inputs of every matrix product of a layer, and attention, because fused
attention kernels exist in 16 bit only. In float32: the patch projection with the position
embedding, the residual stream, LayerNorm and RMSNorm, GELU and SiLU, rotary embedding, pooling,
and the head. docs/gpu.md has the errors that each of these would add in 16 bit.

The modules share the weights they are made from wherever the dtype is the same, so that a
checkpoint read in 16 bit exists once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

from engine_build.families.modules import MixedVisionModule, TokenScorerModule
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.vision import VisionEncoder


class MixedVisionEncoder(MixedVisionModule):
    """`VisionEncoder` with 16-bit products and float16 features."""

    def __init__(self, model: VisionEncoder, *, dtype: torch.dtype) -> None:
        """Take over a model's weights; float32 keeps norms and patch projection as trained.

        Products in float32 (then the features too) give the model that others are compared with.
        """
        super().__init__()
        self.output_dtype = torch.float32 if dtype == torch.float32 else torch.float16
        self.side, self.image_size = model.side, model.image_size
        self.patch_size = model.patch_size
        conv = model.embeddings.patch_embedding
        # (D_v, p*p*3), over (row, column, channel) as the pixels lie.
        self.patch_weight = frozen(conv.weight.permute(0, 2, 3, 1).flatten(1), torch.float32)
        self.patch_bias = frozen(conv.bias, torch.float32)
        positions = model.embeddings.position_embedding.weight
        self.positions = frozen(positions, torch.float32)  # (P, D_v)
        self.layers = nn.ModuleList(EncoderLayer(one, dtype) for one in model.encoder.layers)

    def forward(self, pixels: Tensor, pool: Tensor) -> Tensor:
        """Do what `VisionEncoder.forward` does, to float16 whichever 16 bits the products have."""
        hidden_states = self.embed_patches(pixels)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        hidden_states = hidden_states.to(torch.float32)
        # Without products of n and g in shapes, which the exporter would compute from a Squeeze
        # without axes, and TensorRT's parser takes that in all cases only since 11.5.
        n, _, width = hidden_states.shape
        rows = torch.matmul(pool, hidden_states.reshape(n, self.side, self.side * width))
        rows = rows.reshape(n, -1, self.side, width)  # (n, g, s, D_v): rows pooled
        pooled = torch.matmul(pool.unsqueeze(1), rows)  # (n, g, g, D_v)
        return pooled.reshape(n, -1, width).to(self.output_dtype)

    def embed_patches(self, pixels: Tensor) -> Tensor:
        """Project patches and add positions: uint8 (n, S, S, 3) -> float32 (n, P, D_v)."""
        patches = self.cut_patches(pixels.to(torch.float32) / 127.5 - 1)
        return F.linear(patches, self.patch_weight, self.patch_bias) + self.positions

    def cut_patches(self, pixels: Tensor) -> Tensor:
        """(n, S, S, 3) -> (n, P, p*p*3), without what lies behind the last whole patch."""
        n, s, p = pixels.shape[0], self.side, self.patch_size
        patches = pixels[:, : s * p, : s * p].reshape(n, s, p, s, p, 3)
        return patches.transpose(2, 3).reshape(n, s * s, p * p * 3)


class MixedTokenScorer(TokenScorerModule):
    """The decoder and head of `GroundingModel`: one score a token, full attention."""

    def __init__(self, model: GroundingModel, *, dtype: torch.dtype, max_tokens: int) -> None:
        """Take over a model's weights, but neither its projector nor its embedding table.

        Positions are rotated by a table of `max_tokens`: kernels may take sines of angles as large
        as these with too few digits.
        """
        super().__init__()
        decoder = model.decoder
        self.dtype, self.max_tokens = dtype, max_tokens
        self.hidden_size = decoder.config.hidden_size
        angles = torch.arange(max_tokens)[:, None].float() * decoder.rotary_emb.inv_freq.float()
        # (max_tokens, h) each: both halves of a head turn by the same angles.
        self.cos = frozen(torch.cat([angles.cos(), angles.cos()], dim=1), torch.float32)
        self.sin = frozen(torch.cat([angles.sin(), angles.sin()], dim=1), torch.float32)
        self.layers = nn.ModuleList(_DecoderLayer(one, dtype) for one in decoder.layers)
        self.norm = RMSNorm(decoder.norm)
        self.head_weight = frozen(model.head.weight[0], torch.float32)  # (D,)
        self.head_bias = frozen(model.head.bias, torch.float32)

    def forward(self, inputs_embeds: Tensor) -> Tensor:
        """Score the tokens of one sequence: (S, D) in the products' dtype -> float32 (S,)."""
        # (S, h): positions 0 to S - 1.
        num_tokens = inputs_embeds.shape[0]
        cos, sin = self.cos[:num_tokens], self.sin[:num_tokens]
        hidden_states = inputs_embeds.to(torch.float32).unsqueeze(0)
        for layer in self.layers:
            hidden_states = layer(hidden_states, cos, sin)
        # A sum instead of a product with one column, which TensorRT might run in TF32.
        scores: Tensor = (self.norm(hidden_states[0]) * self.head_weight).sum(dim=1)
        return scores + self.head_bias


class _DecoderLayer(nn.Module):
    def __init__(self, layer: Qwen2DecoderLayer, dtype: torch.dtype) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.dtype = dtype
        self.num_heads = attention.config.num_attention_heads
        self.num_kv_heads = attention.config.num_key_value_heads
        self.scale = attention.scaling
        self.norm_1 = RMSNorm(layer.input_layernorm)
        self.norm_2 = RMSNorm(layer.post_attention_layernorm)
        self.query = Product(attention.q_proj, dtype=dtype)
        self.key = Product(attention.k_proj, dtype=dtype)
        self.value = Product(attention.v_proj, dtype=dtype)
        self.out = Product(attention.o_proj, dtype=dtype)
        self.gate = Product(mlp.gate_proj, dtype=dtype)
        self.up = Product(mlp.up_proj, dtype=dtype)
        self.down = Product(mlp.down_proj, dtype=dtype)

    def forward(self, residual: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Float32 (1, S, D) -> the same; cos and sin float32 (S, h)."""
        hidden_states = self.norm_1(residual)
        query = split_heads(self.query(hidden_states), self.num_heads)  # (1, H, S, h)
        key = split_heads(self.key(hidden_states), self.num_kv_heads)  # (1, K, S, h)
        value = split_heads(self.value(hidden_states), self.num_kv_heads)
        query = (_rotate(query, cos, sin) * self.scale).to(self.dtype)
        key = _rotate(key, cos, sin).to(self.dtype)
        attended = attend(query, key, value)
        residual = residual + self.out(attended).to(torch.float32)
        hidden_states = self.norm_2(residual)
        gate = F.silu(self.gate(hidden_states).to(torch.float32))
        gated = gate * self.up(hidden_states).to(torch.float32)
        summed: Tensor = residual + self.down(gated).to(torch.float32)
        return summed


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding over split halves in float32; heads (1, H, S, h)."""
    # (1, H, S, h) x (S, h): broadcast over heads
    heads = heads.to(torch.float32)
    # Qwen2 pairs column i with i + h/2, not neighbors.
    first, second = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat([-second, first], dim=-1) * sin


class EncoderLayer(nn.Module):
    """A layer of a vision tower: attention, then an MLP; a norm before each, a sum behind."""

    def __init__(self, layer: SiglipEncoderLayer, dtype: torch.dtype) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.norm_1, self.norm_2 = LayerNorm(layer.layer_norm1), LayerNorm(layer.layer_norm2)
        # One product of three times the width: its input is read once, its tiles are fuller.
        self.qkv = Product(attention.q_proj, attention.k_proj, attention.v_proj, dtype=dtype)
        self.out = Product(attention.out_proj, dtype=dtype)
        self.up, self.down = Product(mlp.fc1, dtype=dtype), Product(mlp.fc2, dtype=dtype)
        self.activation = mlp.activation_fn
        self.num_heads: int = attention.num_heads
        self.scale = (attention.out_proj.in_features // self.num_heads) ** -0.5

    def forward(self, residual: Tensor) -> Tensor:
        """(n, S, D) -> the same, summed in the dtype that comes in: float32 as built."""
        packed = self.qkv(self.norm_1(residual))  # (n, S, 3*H*h)
        # Divided after all heads have moved: where the product's columns are divided, TensorRT's
        # builder takes it apart into three again, each with a copy of its own (docs/gpu.md).
        query, key, value = split_heads(packed, 3 * self.num_heads).chunk(3, dim=1)
        attended = attend(query * self.scale, key, value)
        residual = residual + self.out(attended).to(residual.dtype)
        activated = self.activation(self.up(self.norm_2(residual)).to(torch.float32))
        summed: Tensor = residual + self.down(activated).to(residual.dtype)
        return summed


class Product(nn.Module):
    """Linear layers of one input as one product, in one dtype whatever the input has.

    Their outputs lie side by side.
    """

    def __init__(self, *linears: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = frozen(_joined([one.weight for one in linears]), dtype)
        biases = [one.bias for one in linears if one.bias is not None]
        self.bias = frozen(_joined(biases), dtype) if biases else None

    def forward(self, inputs: Tensor) -> Tensor:
        """(*, D) -> (*, sum of the outputs' widths), in the weights' dtype."""
        return F.linear(inputs.to(self.weight.dtype), self.weight, self.bias)


class LayerNorm(nn.Module):
    """In float32, whatever comes in."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight = frozen(norm.weight, torch.float32)
        self.bias = frozen(norm.bias, torch.float32)
        self.epsilon = norm.eps

    def forward(self, inputs: Tensor) -> Tensor:
        """(*, D) -> float32 (*, D)."""
        inputs = inputs.to(torch.float32)
        return F.layer_norm(inputs, self.weight.shape, self.weight, self.bias, self.epsilon)


class RMSNorm(nn.Module):
    """In float32, whatever comes in."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight = frozen(norm.weight, torch.float32)
        self.epsilon: float = norm.variance_epsilon

    def forward(self, inputs: Tensor) -> Tensor:
        """(*, D) -> float32 (*, D)."""
        inputs = inputs.to(torch.float32)
        # Written as a power, the exporter makes this RMSNormalization, which is newer in TensorRT's
        # parser than Attention.
        variance = (inputs * inputs).mean(-1, keepdim=True)
        return self.weight * (inputs * torch.rsqrt(variance + self.epsilon))


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    # A tensor alone is not copied.
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def frozen(tensor: Tensor, dtype: torch.dtype) -> nn.Parameter:
    """Return a weight, which is no copy where the dtype is the same."""
    return nn.Parameter(tensor.detach().to(dtype), requires_grad=False)


def split_heads(packed: Tensor, num_heads: int) -> Tensor:
    """(n, S, H*h) -> (n, H, S, h)."""
    n, length, width = packed.shape
    return packed.reshape(n, length, num_heads, width // num_heads).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Full attention of a scaled query (n, H, S, h) -> (n, S, H*h), exported as one operator.

    The operator could scale, too; TensorRT's parser then scales query and key by the root of it,
    each in 16 bit, which rounds twice more.
    """
    grouped = key.shape[1] != query.shape[1]  # the exporter refuses groups of one
    attended = F.scaled_dot_product_attention(query, key, value, scale=1.0, enable_gqa=grouped)
    # (n, H, S, h) -> (n, S, H*h)
    return attended.transpose(1, 2).flatten(2)
