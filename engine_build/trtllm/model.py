"""The decoder as a TensorRT-LLM network: packed embeddings in, one score a token out.

`trtllm-build --model_cls_file` loads this file by its path, before it reads the checkpoint's
config, so it registers itself when imported and imports nothing of ours. Nothing of ours imports
it either: it needs TensorRT-LLM 1.2.1.

Shape letters: N tokens, D decoder width.

Source: NVIDIA/TensorRT-LLM, layers as in `models/qwen/model.py` 04a2cac, `gpt_attention` as in
`functional.py` 0071496, inputs as in `models/generation_mixin.py` 03ec464. Different there: causal
attention, token ids in, logits of the last token out.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import tensorrt as trt
from tensorrt_llm.functional import AttentionMaskType, Tensor, cast, gpt_attention
from tensorrt_llm.layers import (
    Attention,
    AttentionParams,
    ColumnLinear,
    GatedMLP,
    KeyValueCacheParams,
    RmsNorm,
)
from tensorrt_llm.models import MODEL_MAP
from tensorrt_llm.models.modeling_utils import PretrainedModel
from tensorrt_llm.models.qwen.config import QWenConfig
from tensorrt_llm.module import Module, ModuleList

# Slots of the plugin's performance knobs.
_NUM_PERF_KNOBS = 16


class FullAttention(Attention):  # type: ignore[misc]
    """Attention of every token to every token.

    Rotary embedding and grouped keys and values are the plugin's own, and positions start at 0.
    """

    def forward(
        self,
        hidden_states: Tensor,
        kv_cache_params: KeyValueCacheParams,
        attention_params: AttentionParams,
    ) -> Tensor:
        """Return (N, D) for (N, D)."""
        # The base class refuses the padding mask, and of the masks it takes none is full:
        # `bidirectional` runs as causal in the fused kernel. The function below has no such check,
        # and hands `padding` to the kernel as a mask per packed sequence that hides nothing.
        context, _ = gpt_attention(
            qkv=self.qkv(hidden_states),
            past_key_value=None,
            sequence_length=None,
            host_past_key_value_lengths=None,
            host_max_attention_window_sizes=kv_cache_params.host_max_attention_window_sizes,
            host_sink_token_length=kv_cache_params.host_sink_token_length,
            context_lengths=attention_params.context_lengths,
            cache_indirection=None,
            host_request_types=attention_params.host_request_types,
            layer_idx=self.local_layer_idx,
            num_heads=self.num_attention_heads,
            num_kv_heads=self.num_attention_kv_heads,
            num_kv_heads_origin=self.num_kv_heads,
            hidden_size_per_head=self.attention_head_size,
            q_scaling=self.q_scaling,
            rotary_embedding_dim=self.rotary_embedding_dim,
            rotary_embedding_base=self.rotary_embedding_base,
            rotary_embedding_scale_type=self.rotary_embedding_scale_type,
            rotary_embedding_scale=self.rotary_embedding_scale,
            rotary_embedding_max_positions=self.max_position_embeddings,
            position_embedding_type=self.position_embedding_type,
            rotary_inv_freq=attention_params.rotary_inv_freq,
            rotary_cos_sin=attention_params.embed_positions_for_gpt_attention,
            max_context_length=attention_params.max_context_length,
            mask_type=AttentionMaskType.padding,
            tp_size=self.tp_size,
            tp_rank=self.tp_rank,
            host_context_lengths=attention_params.host_context_lengths,
            use_cache=False,
            host_runtime_perf_knobs=attention_params.host_runtime_perf_knobs,
            host_context_progress=attention_params.host_context_progress,
        )
        return self.dense(context)


class DecoderLayer(Module):  # type: ignore[misc]
    """One Qwen2 layer."""

    def __init__(self, config: QWenConfig, layer_idx: int) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(
            normalized_shape=config.hidden_size, eps=config.norm_epsilon, dtype=config.dtype
        )
        self.attention = FullAttention(
            local_layer_idx=layer_idx,
            hidden_size=config.hidden_size,
            attention_head_size=config.head_size,
            num_attention_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            max_position_embeddings=config.max_position_embeddings,
            dtype=config.dtype,
            attention_mask_type=AttentionMaskType.padding,
            bias=config.attn_bias,
            dense_bias=False,
            position_embedding_type=config.position_embedding_type,
            rotary_embedding_base=config.rotary_base,
            rotary_embedding_scaling=config.rotary_scaling,
        )
        self.post_layernorm = RmsNorm(
            normalized_shape=config.hidden_size, eps=config.norm_epsilon, dtype=config.dtype
        )
        self.mlp = GatedMLP(
            hidden_size=config.hidden_size,
            ffn_hidden_size=config.intermediate_size,
            hidden_act=config.hidden_act,
            dtype=config.dtype,
            bias=config.mlp_bias,
        )

    def forward(
        self,
        hidden_states: Tensor,
        kv_cache_params: KeyValueCacheParams,
        attention_params: AttentionParams,
    ) -> Tensor:
        """Return (N, D) for (N, D)."""
        attended = self.attention(
            self.input_layernorm(hidden_states),
            kv_cache_params=kv_cache_params,
            attention_params=attention_params,
        )
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.post_layernorm(hidden_states))


class Transformer(Module):  # type: ignore[misc]
    """Layers and final norm, under the names that TensorRT-LLM's own Qwen2 has."""

    def __init__(self, config: QWenConfig) -> None:
        super().__init__()
        self.layers = ModuleList(
            [DecoderLayer(config, index) for index in range(config.num_hidden_layers)]
        )
        self.ln_f = RmsNorm(
            normalized_shape=config.hidden_size, eps=config.norm_epsilon, dtype=config.dtype
        )

    def forward(
        self,
        hidden_states: Tensor,
        kv_cache_params: KeyValueCacheParams,
        attention_params: AttentionParams,
    ) -> Tensor:
        """Return (N, D) after the final norm for (N, D)."""
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                kv_cache_params=kv_cache_params,
                attention_params=attention_params,
            )
        return self.ln_f(hidden_states)


class VideoITGQwen2ForGrounding(PretrainedModel):  # type: ignore[misc]
    """Scores tokens; the mean over a frame's tokens is taken by the caller."""

    config_class = QWenConfig

    def __init__(self, config: QWenConfig) -> None:
        super().__init__(config)
        self.transformer = Transformer(config)
        self.score = ColumnLinear(config.hidden_size, 1, bias=True, dtype="float32")
        # Keeps the GEMM plugin, which computes in the engine's dtype otherwise, in float32. Not by
        # the constructor's flag of this name: with it, `layers/linear.py` 2a9abd9 takes the dtype
        # by its name only, the older 0396172 as TensorRT's type only.
        self.score.strict_dtype = trt.float32
        # The rotary tables become constants of the engine, shared by all layers.
        Attention.create_attention_const_params(self, config)
        self.position_embedding_type = config.position_embedding_type

    def forward(
        self,
        inputs_embeds: Tensor,
        kv_cache_params: KeyValueCacheParams,
        attention_params: AttentionParams,
    ) -> Tensor:
        """Mark and return float32 (N, 1) for (N, D) in the engine's dtype."""
        attention_params = Attention.fill_attention_params(self, attention_params)
        hidden_states = self.transformer(
            inputs_embeds, kv_cache_params=kv_cache_params, attention_params=attention_params
        )
        scores = self.score(cast(hidden_states, "float32"))
        scores.mark_output("frame_token_scores", "float32")
        return scores

    def prepare_inputs(
        self,
        *,
        max_input_len: int,
        max_num_tokens: int,
        opt_num_tokens: int,
        **_: Any,
    ) -> dict[str, Any]:
        """Declare the network's inputs; the builder passes more sizes than are used here.

        `max_input_len` and `max_num_tokens` are the same: a pass is one sequence.
        """
        return {
            "inputs_embeds": Tensor(
                name="inputs_embeds",
                dtype=self.config.dtype,
                shape=[-1, self.config.hidden_size],
                dim_range=OrderedDict(
                    num_tokens=[[1, opt_num_tokens, max_num_tokens]],
                    hidden_size=[self.config.hidden_size],
                ),
            ),
            "kv_cache_params": KeyValueCacheParams(
                host_max_attention_window_sizes=_fixed_input(
                    "host_max_attention_window_sizes", trt.int32, self.config.num_hidden_layers
                ),
                host_sink_token_length=_fixed_input("host_sink_token_length", trt.int32, 1),
            ),
            "attention_params": AttentionParams(
                context_lengths=_fixed_input("context_lengths", trt.int32, 1),
                host_context_lengths=_fixed_input("host_context_lengths", trt.int32, 1),
                host_request_types=_fixed_input("host_request_types", trt.int32, 1),
                max_context_length=max_input_len,
                host_runtime_perf_knobs=_fixed_input(
                    "host_runtime_perf_knobs", trt.int64, _NUM_PERF_KNOBS
                ),
                host_context_progress=_fixed_input("host_context_progress", trt.int64, 1),
            ),
        }


def _fixed_input(name: str, dtype: trt.DataType, size: int) -> Tensor:
    """Declare a vector of one size."""
    dimension = OrderedDict([(f"{name}_size", [size])])
    return Tensor(name=name, dtype=dtype, shape=[size], dim_range=dimension)


MODEL_MAP["VideoITGQwen2ForGrounding"] = VideoITGQwen2ForGrounding
