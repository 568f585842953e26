"""The layers a Qwen2 decoder is made of."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from tests.fake_tensorrt_llm.functional import (
    AttentionMaskType,
    PositionEmbeddingType,
    RotaryScalingType,
    Tensor,
    cast,
)
from tests.fake_tensorrt_llm.module import Module, Parameter
from tests.fake_tensorrt_llm.network import default_net
from tests.fake_tensorrt_llm.trt import DataType, to_dtype


class AttentionParams:
    def __init__(
        self,
        sequence_length=None,
        context_lengths=None,
        host_context_lengths=None,
        max_context_length=None,
        host_request_types=None,
        host_runtime_perf_knobs=None,
        host_context_progress=None,
    ):
        self.context_lengths = context_lengths
        self.host_context_lengths = host_context_lengths
        self.max_context_length = max_context_length
        self.host_request_types = host_request_types
        self.host_runtime_perf_knobs = host_runtime_perf_knobs
        self.host_context_progress = host_context_progress
        self.rotary_inv_freq = None
        self.embed_positions_for_gpt_attention = None


class KeyValueCacheParams:
    def __init__(self, host_max_attention_window_sizes=None, host_sink_token_length=None):
        self.host_max_attention_window_sizes = host_max_attention_window_sizes
        self.host_sink_token_length = host_sink_token_length


class ColumnLinear(Module):
    def __init__(self, in_features, out_features, bias=True, dtype=None, strict_dtype=False):
        self.weight = Parameter(shape=(out_features, in_features), dtype=dtype)
        self.bias = Parameter(shape=(out_features,), dtype=dtype) if bias else None
        self.strict_dtype = dtype if strict_dtype else None

    def forward(self, x: Tensor) -> Tensor:
        if self.strict_dtype is None:
            computed = to_dtype(default_net().plugin_config.gemm_plugin)
        else:
            assert isinstance(self.strict_dtype, DataType), "the plugin wants TensorRT's type"
            computed = self.strict_dtype
        assert x.dtype == self.weight.dtype == computed, (x.dtype, self.weight.dtype, computed)
        y = Tensor.of(F.linear(x.value, self.weight.tensor))
        return y if self.bias is None else y + cast(self.bias.value, y.dtype)


RowLinear = ColumnLinear


class RmsNorm(Module):
    def __init__(self, normalized_shape, eps=1e-06, dtype=None):
        self.weight = Parameter(shape=(normalized_shape,), dtype=dtype)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.value.float()
        wide = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight.value * Tensor.of(wide.to(x.value.dtype))


class GatedMLP(Module):
    def __init__(
        self, hidden_size, ffn_hidden_size, hidden_act, bias=True, dtype=None, quant_mode=0
    ):
        assert hidden_act == "silu"
        self.fc = ColumnLinear(hidden_size, ffn_hidden_size, bias=bias, dtype=dtype)
        self.gate = ColumnLinear(hidden_size, ffn_hidden_size, bias=bias, dtype=dtype)
        self.proj = RowLinear(ffn_hidden_size, hidden_size, bias=bias, dtype=dtype)

    def forward(self, hidden_states: Tensor) -> Tensor:
        activated = Tensor.of(F.silu(self.fc(hidden_states).value))
        return self.proj(activated * self.gate(hidden_states))


class Attention(Module):
    def __init__(
        self,
        *,
        local_layer_idx,
        hidden_size,
        num_attention_heads,
        num_kv_heads=None,
        max_position_embeddings=1024,
        attention_head_size=None,
        attention_mask_type=AttentionMaskType.padding,
        bias=True,
        dtype=None,
        position_embedding_type=PositionEmbeddingType.learned_absolute,
        rotary_embedding_base=10000.0,
        rotary_embedding_scaling=None,
        quant_mode=0,
        q_scaling=1.0,
        dense_bias=None,
    ):
        assert rotary_embedding_scaling is None
        self.local_layer_idx = local_layer_idx
        self.attention_head_size = attention_head_size
        self.num_attention_heads = num_attention_heads
        self.num_attention_kv_heads = self.num_kv_heads = num_kv_heads
        self.max_position_embeddings = max_position_embeddings
        self.position_embedding_type = position_embedding_type
        self.rotary_embedding_base = rotary_embedding_base
        self.rotary_embedding_scale_type = RotaryScalingType.none
        self.rotary_embedding_scale = 1.0
        self.rotary_embedding_dim = attention_head_size
        self.q_scaling = q_scaling
        self.quant_mode = quant_mode
        self.tp_size, self.tp_rank = 1, 0
        rows = (num_attention_heads + 2 * num_kv_heads) * attention_head_size
        self.qkv = ColumnLinear(hidden_size, rows, bias=bias, dtype=dtype)
        self.dense = RowLinear(
            num_attention_heads * attention_head_size, hidden_size, bias=dense_bias, dtype=dtype
        )

    def _get_output_orig_quant_scale(self):
        return None

    @staticmethod
    def create_attention_const_params(model_cls, config):
        steps = torch.arange(0, config.head_size, 2, dtype=torch.float32) / config.head_size
        frequencies = 1.0 / config.rotary_base**steps
        angles = torch.outer(torch.arange(config.max_position_embeddings).float(), frequencies)
        table = torch.stack([angles.cos(), angles.sin()], dim=-1).reshape(1, -1)
        for name, value in (
            ("rotary_inv_freq", frequencies),
            ("embed_positions_for_gpt_attention", table),
        ):
            model_cls.register_parameter(name, Parameter(value, dtype="float32", is_buffer=True))

    @staticmethod
    def fill_attention_params(model_cls, attention_params):
        assert model_cls.position_embedding_type.is_rope()
        attention_params.rotary_inv_freq = model_cls.rotary_inv_freq.value
        attention_params.embed_positions_for_gpt_attention = (
            model_cls.embed_positions_for_gpt_attention.value
        )
        return attention_params
