"""Tensors of a strongly typed network, and the attention plugin.

What each operation computes is exact to 64 bits and rounded once, to the type of its result.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F

from tests.fake_tensorrt_llm.network import default_net
from tests.fake_tensorrt_llm.trt import DataType
from tests.fake_tensorrt_llm.utils import str_dtype_to_trt


class AttentionMaskType(enum.IntEnum):
    padding = 0
    causal = 1
    sliding_window_causal = 2
    bidirectional = 3
    bidirectionalglm = 4
    blocksparse = 5
    custom_mask = 6


# What the fused kernels make of each mask.
CAUSAL_IN_FUSED_ATTENTION = {
    AttentionMaskType.causal,
    AttentionMaskType.bidirectional,
    AttentionMaskType.bidirectionalglm,
    AttentionMaskType.blocksparse,
}


class PositionEmbeddingType(enum.IntEnum):
    learned_absolute = 0
    rope_gpt_neox = 2

    def is_rope(self) -> bool:
        return self is PositionEmbeddingType.rope_gpt_neox

    @staticmethod
    def from_string(s: str) -> PositionEmbeddingType:
        return PositionEmbeddingType[s]


class RotaryScalingType(enum.IntEnum):
    none = 0


class Tensor:
    """A network tensor; `held` is what it holds in this run."""

    def __init__(self, name=None, dtype=None, shape=None, dim_range=None):
        assert isinstance(dim_range, OrderedDict)
        self.name = name
        self.declared_dtype = str_dtype_to_trt(dtype) if isinstance(dtype, str) else dtype
        self.dim_range = dim_range
        for size, ranges in zip(shape, dim_range.values(), strict=True):
            assert len(ranges) == 1, "one profile"
            if size == -1:
                low, opt, high = ranges[0]
                assert 0 <= low <= opt <= high
            else:
                assert ranges[0] == size
        self.held: torch.Tensor | None = None
        assert name not in default_net().inputs
        default_net().inputs[name] = self

    @property
    def dtype(self) -> DataType:
        return DataType.of(self.held)

    def feed(self, value: torch.Tensor) -> None:
        """Set what an input holds in this run."""
        self.held = value.to(self.declared_dtype.held)

    def profile(self, which: int) -> list[int]:
        """Return the shape at min (0), opt (1) or max (2)."""
        ranges = (ranges[0] for ranges in self.dim_range.values())
        return [size if isinstance(size, int) else size[which] for size in ranges]

    def mark_output(self, name=None, dtype=None):
        assert self.dtype == str_dtype_to_trt(dtype)
        default_net().outputs[name] = self

    def __add__(self, b: Tensor) -> Tensor:
        return _binary(torch.add, self, b)

    def __mul__(self, b: Tensor) -> Tensor:
        return _binary(torch.mul, self, b)


def constant(value: torch.Tensor) -> Tensor:
    """Make a tensor of known content."""
    return _tensor(value, DataType.of(value))


def cast(input: Tensor, dtype: str | DataType) -> Tensor:
    return _tensor(input.held, str_dtype_to_trt(dtype) if isinstance(dtype, str) else dtype)


def silu(input: Tensor) -> Tensor:
    return _tensor(F.silu(input.held.double()), input.dtype)


def swiglu(input: Tensor) -> Tensor:
    """Split in two; the second half is activated and multiplies the first."""
    x, gate = (_tensor(half, input.dtype) for half in input.held.chunk(2, dim=-1))
    return silu(gate) * x


ACT2FN: dict[str, Callable[[Tensor], Tensor]] = {"silu": silu, "swiglu": swiglu}


def matmul(input: Tensor, mat2: Tensor) -> Tensor:
    """Multiply by the transposed second matrix."""
    return _binary(lambda a, b: a @ b.T, input, mat2)


def rms_norm(input: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = input.held.double()
    wide = wide / (wide.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    return _tensor(wide, input.dtype) * weight


def gpt_attention(
    *,
    qkv,
    past_key_value,
    sequence_length,
    host_past_key_value_lengths,
    host_max_attention_window_sizes,
    host_sink_token_length,
    context_lengths,
    cache_indirection,
    host_request_types,
    layer_idx,
    num_heads,
    num_kv_heads,
    hidden_size_per_head,
    q_scaling,
    rotary_embedding_dim=0,
    rotary_embedding_base=10000.0,
    rotary_embedding_scale_type=RotaryScalingType.none,
    rotary_embedding_scale=1.0,
    rotary_embedding_max_positions=1024,
    position_embedding_type=PositionEmbeddingType.learned_absolute,
    rotary_inv_freq=None,
    rotary_cos_sin=None,
    max_context_length=None,
    mask_type=AttentionMaskType.causal,
    tp_size=1,
    tp_rank=0,
    host_context_lengths=None,
    use_cache=True,
    host_runtime_perf_knobs=None,
    host_context_progress=None,
    num_kv_heads_origin=-1,
):
    """Packed context attention without a cache: mask, groups and positions as the plugin's."""
    assert not use_cache
    assert sequence_length is past_key_value is cache_indirection is None
    assert isinstance(max_context_length, int)
    assert qkv.dtype == str_dtype_to_trt(default_net().plugin_config.gpt_attention_plugin)
    assert rotary_embedding_dim == hidden_size_per_head
    assert rotary_embedding_scale_type is RotaryScalingType.none
    assert rotary_embedding_scale == 1.0
    assert position_embedding_type is PositionEmbeddingType.rope_gpt_neox
    assert num_kv_heads_origin in (-1, num_kv_heads)
    lengths = _read_on_host(host_context_lengths)
    assert context_lengths.held.tolist() == lengths
    assert _read_on_host(host_request_types) == [0] * len(lengths)
    assert sum(lengths) == len(qkv.held)
    assert max(lengths) <= max_context_length
    assert _read_on_host(host_max_attention_window_sizes)[layer_idx] >= max(lengths)
    assert _read_on_host(host_sink_token_length) == [0]
    assert _read_on_host(host_runtime_perf_knobs) == [-1] * 16
    assert _read_on_host(host_context_progress) == [0]
    # (positions, d/2, 2): a table, not a formula, so too short a table is an error here as well.
    table = rotary_cos_sin.held.reshape(-1, rotary_embedding_dim // 2, 2)
    assert len(table) == rotary_embedding_max_positions >= max(lengths)
    sizes = [num_heads, num_kv_heads, num_kv_heads]
    causal = mask_type in CAUSAL_IN_FUSED_ATTENTION
    outputs = []
    for sequence in qkv.held.split(lengths):
        heads = sequence.reshape(len(sequence), sum(sizes), hidden_size_per_head)
        query, key, value = heads.double().split(sizes, dim=1)
        query, key = (_rotate(part, table[: len(sequence)]) for part in (query, key))
        groups = num_heads // num_kv_heads
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
        scores = torch.einsum("qhd,khd->hqk", query, key)
        scores = scores / (hidden_size_per_head**0.5 * q_scaling)
        if causal:
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(hidden, float("-inf"))
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1), value)
        outputs.append(mixed.flatten(1))
    return _tensor(torch.cat(outputs), qkv.dtype), None


def _tensor(value: torch.Tensor, dtype: DataType) -> Tensor:
    tensor = Tensor.__new__(Tensor)
    tensor.held = value.to(dtype.held)
    return tensor


def _binary(
    operation: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], a: Tensor, b: Tensor
) -> Tensor:
    assert a.dtype == b.dtype, f"strongly typed: {a.dtype} and {b.dtype}"
    return _tensor(operation(a.held.double(), b.held.double()), a.dtype)


def _read_on_host(tensor: Tensor) -> list[int]:
    """Follow an input's address without asking where it lies, as the plugin does."""
    default_net().read_on_host.add(tensor.name)
    return tensor.held.tolist()


def _rotate(heads: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Rotate (S, heads, d), whose halves are the two parts of each pair, by (S, d/2, 2)."""
    cos, sin = table[:, None, :, 0], table[:, None, :, 1]
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
