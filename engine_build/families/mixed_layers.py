"""Layers as TensorRT engines compute them: products in 16 bit, sums over layers in 32.

What stays in float32 and why: docs/gpu.md. The modules share the weights they are made from
wherever the dtype is the same.

Shape letters: n frames, S tokens, D width, H heads, h head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer


class EncoderLayer(nn.Module):
    """A layer of a vision tower: attention, then an MLP; a norm before each, a sum behind."""

    def __init__(
        self,
        *,
        norms: tuple[nn.LayerNorm, nn.LayerNorm],
        qkv: Sequence[nn.Linear],
        out: nn.Linear,
        mlp: tuple[nn.Linear, nn.Linear],
        activation: nn.Module,
        num_heads: int,
        dtype: torch.dtype,
    ) -> None:
        """Take over a layer's weights.

        Args:
            norms: Before attention, and before the MLP.
            qkv: Projections to query, key and value, or one to all of them.
            out: Behind attention.
            mlp: Its two products.
            activation: Between these.
            num_heads: H.
            dtype: Of the products.
        """
        super().__init__()
        self.norm_1, self.norm_2 = (LayerNorm(norm) for norm in norms)
        # One product of three times the width: its input is read once, its tiles are fuller.
        self.qkv = Product(*qkv, dtype=dtype)
        self.out = Product(out, dtype=dtype)
        self.up, self.down = (Product(one, dtype=dtype) for one in mlp)
        self.activation = activation
        self.num_heads = num_heads
        self.scale = (out.in_features // num_heads) ** -0.5

    @classmethod
    def of_transformers(
        cls, layer: SiglipEncoderLayer | CLIPEncoderLayer, dtype: torch.dtype
    ) -> EncoderLayer:
        """Take over a layer of CLIP's or SigLIP's tower: transformers has one layout for both."""
        attention, mlp = layer.self_attn, layer.mlp
        return cls(
            norms=(layer.layer_norm1, layer.layer_norm2),
            qkv=(attention.q_proj, attention.k_proj, attention.v_proj),
            out=attention.out_proj,
            mlp=(mlp.fc1, mlp.fc2),
            activation=mlp.activation_fn,
            num_heads=attention.num_heads,
            dtype=dtype,
        )

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


class PatchEmbedding(nn.Module):
    """Frames to what a tower's first layer takes, in float32: patches, class token, positions."""

    def __init__(
        self,
        *,
        weight: Tensor,
        bias: Tensor | None,
        class_token: Tensor,
        positions: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """Take over a tower's weights.

        Args:
            weight: (D, 3, p, p) of a convolution by patches of p pixels a side.
            bias: (D,), where it has one.
            class_token: (D,), which stands before the patches.
            positions: (S, D), the class token's first.
            mean: Of pixels in [0, 1], by channel.
            std: Likewise.
        """
        super().__init__()
        self.patch_size = weight.shape[-1]
        # (D, p*p*3), over (row, column, channel) as the pixels lie.
        self.weight = frozen(weight.permute(0, 2, 3, 1).flatten(1), torch.float32)
        self.bias = None if bias is None else frozen(bias, torch.float32)
        # The class token is the same for every frame, as its position is.
        summed = positions.detach().float().clone()
        summed[0] += class_token.detach().float()
        self.positions = frozen(summed, torch.float32)
        self.mean = frozen(torch.tensor(mean), torch.float32)
        self.std = frozen(torch.tensor(std), torch.float32)

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 (n, ..., height, width, 3) -> (n, S, D), all frames of n behind one class token."""
        values = (frames.to(torch.float32) / 255.0 - self.mean) / self.std
        height, width = frames.shape[-3:-1]
        p = self.patch_size
        values = values.reshape(frames.shape[0], -1, height // p, p, width // p, p, 3)
        # (n, F, rows, columns, p, p, 3) -> (n, S - 1, p*p*3)
        patches = values.transpose(3, 4).flatten(4).flatten(1, 3)
        # A row of zeros in front for the class token, which `positions` has.
        embedded = F.pad(F.linear(patches, self.weight, self.bias), (0, 0, 1, 0))
        return embedded + self.positions


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
        """Take over the weight of a norm of transformers, Llama's or one of its layout."""
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
