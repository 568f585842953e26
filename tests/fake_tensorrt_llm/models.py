"""Configs and the base class of models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from tests.fake_tensorrt_llm.functional import PositionEmbeddingType
from tests.fake_tensorrt_llm.module import Module

MODEL_MAP: dict[str, Any] = {}


class QWenConfig:
    """The keys that are known; an unknown one is an error here, a warning in the library."""

    def __init__(
        self,
        *,
        architecture,
        dtype,
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        vocab_size=None,
        hidden_act="gelu",
        logits_dtype="float32",
        norm_epsilon=1e-5,
        position_embedding_type="learned_absolute",
        max_position_embeddings=None,
        num_key_value_heads=None,
        intermediate_size=None,
        mapping=None,
        quantization=None,
        head_size=None,
        attn_bias=True,
        mlp_bias=False,
        rotary_base=10000.0,
        rotary_scaling=None,
        qwen_type=None,
    ):
        self.__dict__.update(locals())
        del self.__dict__["self"]
        self.position_embedding_type = PositionEmbeddingType[position_embedding_type]
        self.mapping = SimpleNamespace(**mapping)
        assert quantization == {"quant_algo": None}
        self.quant_mode = 0

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> QWenConfig:
        # As in the library: an architecture nobody registered is a KeyError.
        return MODEL_MAP[config["architecture"]].config_class(**config)


class PretrainedModel(Module):
    def __init__(self, config: QWenConfig) -> None:
        self.config = config

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        parameters = {name: p for name, p in self.named_parameters() if not p.is_buffer}
        missing = parameters.keys() - weights.keys()
        if missing:
            raise RuntimeError(f"Required but not provided tensors:{missing}")
        surplus = weights.keys() - parameters.keys()
        assert not surplus, surplus  # only a warning in the library
        for name, parameter in parameters.items():
            parameter.load(weights[name])
