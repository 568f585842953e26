"""Layers as TensorRT engines compute them: products in 16 bit, sums over layers in 32.

What stays in float32 and why: docs/tensorrt.md. The modules share the weights they are made from
wherever the dtype is the same.

Shape letters: n frames, S tokens, D width, H heads, h head size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer


class EncoderLayer(nn.Module):
    """A layer of CLIP's or SigLIP's tower: transformers has one layout for both."""

    def __init__(self, layer: SiglipEncoderLayer | CLIPEncoderLayer, dtype: torch.dtype) -> None:
        super().__init__()
        attention = layer.self_attn
        self.num_heads = attention.num_heads
        self.scale = attention.scale
        self.norm_1, self.norm_2 = LayerNorm(layer.layer_norm1), LayerNorm(layer.layer_norm2)
        # One product of three times the width: its input is read once, its tiles are fuller.
        self.qkv = Product(attention.q_proj, attention.k_proj, attention.v_proj, dtype=dtype)
        self.out = Product(attention.out_proj, dtype=dtype)
        self.up = Product(layer.mlp.fc1, dtype=dtype)
        self.down = Product(layer.mlp.fc2, dtype=dtype)
        self.activation = layer.mlp.activation_fn

    def forward(self, residual: Tensor) -> Tensor:
        """(n, S, D) -> the same, summed in the dtype that comes in: float32 as built."""
        packed = self.qkv(self.norm_1(residual))  # (n, S, 3*H*h)
        # Divided after all heads have moved: where the product's columns are divided, TensorRT's
        # builder takes it apart into three again, each with a copy of its own (docs/tensorrt.md).
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
