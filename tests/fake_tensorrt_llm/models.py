"""Configs, the base class of models, and the passes that change a model before it is built."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from tests.fake_tensorrt_llm.functional import PositionEmbeddingType
from tests.fake_tensorrt_llm.layers import FusedGatedMLP, GatedMLP
from tests.fake_tensorrt_llm.module import Module
from tests.fake_tensorrt_llm.utils import get_init_params

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
        use_parallel_embedding=False,
    ):
        self.__dict__.update(locals())
        del self.__dict__["self"]
        self.position_embedding_type = PositionEmbeddingType.from_string(position_embedding_type)
        self.mapping = SimpleNamespace(**mapping)
        assert quantization == {"quant_algo": None}, "the double has no quantised layers"

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> QWenConfig:
        # As in the library: an architecture nobody registered is a KeyError.
        return MODEL_MAP[config["architecture"]].config_class(**config)


class PostInitCaller(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        model = super().__call__(*args, **kwargs)
        model.__post_init__()
        return model


class PretrainedModel(Module, metaclass=PostInitCaller):
    def __init__(self, config: QWenConfig) -> None:
        super().__init__()
        self.config = config

    def __post_init__(self) -> None:
        optimize_model(self, use_parallel_embedding=self.config.use_parallel_embedding)

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        parameters = dict(self.named_parameters())
        required = {name for name, parameter in parameters.items() if not parameter.is_inited()}
        missing = required - weights.keys()
        if missing:
            raise RuntimeError(f"Required but not provided tensors:{missing}")
        surplus = weights.keys() - required
        assert not surplus, surplus  # only a warning in the library
        for name, weight in weights.items():
            parameters[name].value = weight


def optimize_model(
    model: PretrainedModel,
    use_parallel_embedding: bool = False,
    share_embedding_table: bool = False,
    use_fused_mlp: bool = False,
) -> PretrainedModel:
    """Run the passes, in the order of the arguments."""
    assert not use_parallel_embedding
    # `share_embedding_table` looks for a token embedding and a head on it; this model has neither.
    if use_fused_mlp:
        model = fuse_gate_mlp(model)
    return model


def fuse_gate_mlp(model: PretrainedModel) -> PretrainedModel:
    """Put one product in the place of two; needs weights that are loaded and not yet constants."""
    for name, mlp, parent in model.named_modules_with_parent():
        if not isinstance(mlp, GatedMLP):
            continue
        arguments = get_init_params(mlp)
        arguments["inner_layernorm"] = mlp.inner_layernorm is not None
        fused = FusedGatedMLP(**arguments)
        # The linear branch first: what `swiglu` activates is the second half.
        for kind in ("weight", "bias") if mlp.bias else ("weight",):
            halves = [getattr(branch, kind).raw_value for branch in (mlp.gate, mlp.fc)]
            getattr(fused.fused_fc, kind).value = torch.cat(halves)
        fused.proj = mlp.proj
        setattr(parent, name.rsplit(".", 1)[-1], fused)
    return model
