"""The layers a Qwen2 decoder is made of."""

from __future__ import annotations

import torch

from tests.fake_tensorrt_llm.functional import (
    ACT2FN,
    AttentionMaskType,
    PositionEmbeddingType,
    RotaryScalingType,
    Tensor,
    cast,
    matmul,
    rms_norm,
)
from tests.fake_tensorrt_llm.module import Module, Parameter
from tests.fake_tensorrt_llm.network import default_net
from tests.fake_tensorrt_llm.trt import DataType
from tests.fake_tensorrt_llm.utils import str_dtype_to_trt


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


class LinearBase(Module):
    def __init__(self, in_features, out_features, bias, dtype, strict_dtype):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.dtype = dtype
        self.weight = Parameter(shape=(out_features, in_features), dtype=dtype)
        self.strict_dtype = str_dtype_to_trt(dtype) if strict_dtype else None
        if bias:
            self.bias = Parameter(shape=(out_features,), dtype=dtype)
        else:
            self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        gemm_plugin = default_net().plugin_config.gemm_plugin
        if gemm_plugin is None:
            y = matmul(x, self.weight.value)
        else:
            y = _gemm_plugin(x, self.weight.value, strict_dtype=self.strict_dtype)
        return y if self.bias is None else y + cast(self.bias.value, y.dtype)


class Linear(LinearBase):
    def __init__(
        self,
        in_features,
        out_features,
        bias=True,
        dtype=None,
        tp_group=None,
        tp_size=1,
        gather_output=True,
        strict_dtype=False,
        is_qkv=False,
    ):
        super().__init__(in_features, out_features, bias, dtype, strict_dtype)


ColumnLinear = Linear


class RowLinear(LinearBase):
    def __init__(
        self,
        in_features,
        out_features,
        bias=True,
        dtype=None,
        tp_group=None,
        tp_size=1,
        strict_dtype=False,
        is_expert=False,
    ):
        super().__init__(in_features, out_features, bias, dtype, strict_dtype)


def _gemm_plugin(input: Tensor, mat2: Tensor, strict_dtype: DataType | None) -> Tensor:
    """Multiply in the plugin's one type, which both operands must have."""
    if strict_dtype is None:
        computed = str_dtype_to_trt(default_net().plugin_config.gemm_plugin)
    else:
        assert isinstance(strict_dtype, DataType)
        computed = strict_dtype
    assert input.dtype == mat2.dtype == computed, (input.dtype, mat2.dtype, computed)
    return matmul(input, mat2)


class RmsNorm(Module):
    def __init__(
        self, normalized_shape, num_groups=1, eps=1e-06, elementwise_affine=True, dtype=None
    ):
        super().__init__()
        self.weight = Parameter(shape=(normalized_shape,), dtype=dtype)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight.value, self.eps)


class GatedMLP(Module):
    def __init__(
        self,
        hidden_size,
        ffn_hidden_size,
        hidden_act,
        bias=True,
        dtype=None,
        tp_group=None,
        tp_size=1,
        inner_layernorm=False,
        eps=1e-05,
        is_expert=False,
    ):
        super().__init__()
        if hidden_act not in ACT2FN:
            raise ValueError(f"unsupported activation function: {hidden_act}")
        assert not inner_layernorm
        self.inner_layernorm = None
        self.fc = ColumnLinear(hidden_size, ffn_hidden_size, bias=bias, dtype=dtype)
        self.gate = ColumnLinear(hidden_size, ffn_hidden_size, bias=bias, dtype=dtype)
        self.proj = RowLinear(ffn_hidden_size, hidden_size, bias=bias, dtype=dtype)
        self.hidden_size, self.ffn_hidden_size = hidden_size, ffn_hidden_size
        self.hidden_act = hidden_act
        self.bias = bias
        self.dtype = dtype
        self.tp_group, self.tp_size = tp_group, tp_size
        self.eps = eps
        self.is_expert = is_expert

    def forward(self, hidden_states: Tensor) -> Tensor:
        activated = ACT2FN[self.hidden_act](self.fc(hidden_states))
        return self.proj(activated * self.gate(hidden_states))


class FusedGatedMLP(Module):
    """One product for both branches; which half is which, `fuse_gate_mlp` decides."""

    def __init__(
        self,
        hidden_size,
        ffn_hidden_size,
        hidden_act,
        bias=True,
        dtype=None,
        **_,
    ):
        super().__init__()
        self.hidden_act = hidden_act
        self.fused_fc = ColumnLinear(hidden_size, 2 * ffn_hidden_size, bias=bias, dtype=dtype)
        self.proj = RowLinear(ffn_hidden_size, hidden_size, bias=bias, dtype=dtype)

    def forward(self, hidden_states: Tensor) -> Tensor:
        plugins = default_net().plugin_config
        assert plugins.gemm_swiglu_plugin is plugins.low_latency_gemm_swiglu_plugin is None
        assert self.hidden_act == "silu"
        return self.proj(ACT2FN["swiglu"](self.fused_fc(hidden_states)))


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
        q_scaling=1.0,
        dense_bias=None,
    ):
        super().__init__()
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
        self.tp_size, self.tp_rank = 1, 0
        rows = (num_attention_heads + 2 * num_kv_heads) * attention_head_size
        self.qkv = ColumnLinear(hidden_size, rows, bias=bias, dtype=dtype, is_qkv=True)
        self.dense = RowLinear(
            num_attention_heads * attention_head_size,
            hidden_size,
            bias=bias if dense_bias is None else dense_bias,
            dtype=dtype,
        )

    @staticmethod
    def create_attention_const_params(model_cls, config):
        if not config.position_embedding_type.is_rope():
            return
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
