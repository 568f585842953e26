"""The checkpoint's config.json as the reference reads it, its surprising defaults included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from groundserve.errors import UnsupportedError
from groundserve.families.clip import ClipTowerConfig

_Value = TypeVar("_Value", int, str)

# What the released model has, and what the reference assumes when the key is missing. Where the
# two differ, a missing key means another model, so it is refused instead of guessed.
_REQUIRED_VALUES: dict[str, tuple[object, object]] = {
    "mm_projector_type": ("seq_mlp", "linear"),
    "mm_use_4_vision_tokens": (False, True),
    "mm_vision_select_feature": ("patch", "list"),
    "mm_use_im_start_end": (False, False),
    "mm_use_im_patch_token": (False, True),
    "hidden_act": ("silu", "silu"),
    "use_sliding_window": (False, False),
    # Ours: how stage 4 was trained to score frames; the reference released "pooling" alone.
    "grounding_variant": ("pooling", "pooling"),
}


_TOWER_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("image_size", "patch_size"),
)
_DECODER_SIZES = (*_TOWER_SIZES[:4], "num_key_value_heads", "vocab_size")
_SIZES = (*_DECODER_SIZES, "mm_hidden_size", "mm_vision_select_layer", "vision_token_num")
QWEN2_KEYS = (*_DECODER_SIZES, "max_position_embeddings", "rms_norm_eps", "rope_theta")
"""What Qwen2's own config has by the same names."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """The keys of config.json that decide what the model computes."""

    vocab_size: int
    hidden_size: int
    """D, width of the decoder."""
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    """Written by training; positions past it still work, rotary tables have no end."""
    mm_vision_tower: str
    """Name of the vision tower; holds "siglip"."""
    mm_hidden_size: int
    """D_v, width of the vision features."""
    mm_vision_select_layer: int
    """Which of the tower's hidden states is used; -2 is the output of the last layer but one."""
    vision_token_num: int
    """Budget of visual tokens."""
    initializer_range: float
    """Standard deviation that training draws new weights with; serving makes none."""
    tokenizer_model_max_length: int | None
    """Most visual and text tokens together; None: the reference never truncates."""

    def decoder_flop(self, num_tokens: int) -> float:
        """Return the arithmetic of one pass through the decoder's layers; a multiply-add is 2."""
        return self.linear_flop(num_tokens) + self.attention_flop(num_tokens, is_causal=False)

    def linear_flop(self, num_tokens: int) -> float:
        """Return what of `decoder_flop` are products with weights."""
        width = self.hidden_size
        # K and V have fewer heads than Q, all of one size.
        key_width = width * self.num_key_value_heads // self.num_attention_heads
        # Q and the output, K and V; gate, up and down.
        weights = 2 * width * (width + key_width) + 3 * width * self.intermediate_size
        return 2.0 * self.num_hidden_layers * num_tokens * weights

    def attention_flop(self, num_tokens: int, *, is_causal: bool) -> float:
        """Return the products of tokens with tokens; causal, a token meets only those before it."""
        # Scores and their product with V, 2 x 2 operations a pair and column.
        pairs = num_tokens**2 / (2 if is_causal else 1)
        return 4.0 * self.num_hidden_layers * pairs * self.hidden_size

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> CheckpointConfig:
        """Read the parsed config.json.

        Source: NVlabs/VideoITG fab8b54, `eagle/model/eagle_archv1.py`,
        `eagle/model/multimodal_encoder/clip_encoder.py`,
        `eagle/model/multimodal_projector/mlp_proj.py`.
        """
        for key, (supported, default) in _REQUIRED_VALUES.items():
            value = raw.get(key, default)
            if value != supported:
                how = "is" if key in raw else "is missing, which means"
                raise UnsupportedError(
                    f"config.json: {key} {how} {value!r}; groundserve computes {supported!r} only"
                )
        tower = _get(raw, "mm_vision_tower", str)
        if "siglip" not in tower.lower():
            raise UnsupportedError(
                f'config.json: mm_vision_tower must name a SigLIP tower, got "{tower[:80]}"'
            )
        max_length = raw.get("tokenizer_model_max_length")
        return cls(
            **{name: _get(raw, name, int) for name in _SIZES},
            rms_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
            # The class default, not the 1e6 of every released Qwen2.
            rope_theta=float(raw.get("rope_theta", 1e4)),
            max_position_embeddings=int(raw.get("max_position_embeddings", 32768)),
            mm_vision_tower=tower,
            initializer_range=float(raw.get("initializer_range", 0.02)),
            tokenizer_model_max_length=None if max_length is None else int(max_length),
        )


def _get(raw: dict[str, Any], key: str, kind: type[_Value]) -> _Value:
    value = raw.get(key)
    # JSON's true is an int to isinstance.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UnsupportedError(
            f"config.json: {key} must be given as {kind.__name__}, got {value!r}"
        )
    return value


@dataclass(frozen=True, kw_only=True)
class VisionConfig(ClipTowerConfig):
    """The SigLIP tower's config; its layers are those of the whole tower."""

    num_class_tokens: ClassVar[int] = 0
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> VisionConfig:
        """Read a tower's parsed config.json; a whole SigLIP holds the tower's one level down."""
        raw = raw.get("vision_config", raw)
        return cls(
            **{name: _get(raw, name, int) for name in _TOWER_SIZES},
            hidden_act=raw.get("hidden_act", cls.hidden_act),
            layer_norm_eps=float(raw.get("layer_norm_eps", cls.layer_norm_eps)),
        )

    def num_layers_used(self, select_layer: int) -> int:
        """Return how many layers produce `hidden_states[select_layer]`.

        The tuple has one entry more than there are layers: entry 0 is the embeddings, entry k the
        output of layer k (counted from 1). -2 is therefore the output of the last layer but one.
        """
        num_entries = self.num_hidden_layers + 1
        if not -num_entries <= select_layer < num_entries:
            raise UnsupportedError(
                f"mm_vision_select_layer must be in {-num_entries}..{num_entries - 1}, "
                f"got {select_layer}"
            )
        return select_layer % num_entries


# The one tower the released model uses; its checkpoint carries the weights but not this config.
KNOWN_TOWERS = {
    "siglip-so400m-patch14-384": VisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        image_size=384,
        patch_size=14,
    )
}
