"""The checkpoint's config.json as the reference reads it, its surprising defaults included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from groundserve.errors import UnsupportedError

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
}


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """The keys of config.json that decide what the model computes."""

    vocab_size: int
    """Rows of the embedding table."""
    hidden_size: int
    """D, width of the decoder."""
    intermediate_size: int
    """Width of the gated MLP."""
    num_hidden_layers: int
    """Decoder layers."""
    num_attention_heads: int
    """Query heads; the head size is D / heads."""
    num_key_value_heads: int
    """Key and value heads, shared by groups of query heads."""
    rms_norm_eps: float
    """Epsilon of every RMSNorm."""
    rope_theta: float
    """Base of the rotary frequencies."""
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
    tokenizer_model_max_length: int | None
    """Most visual and text tokens together; None: the reference never truncates."""

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> CheckpointConfig:
        """Read the parsed config.json.

        Raises:
            UnsupportedError: A key is missing or has a value this model code does not compute.

        Source: NVlabs/VideoITG fab8b54, `eagle_archv1.py`, `clip_encoder.py`, `mlp_proj.py`.
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
            vocab_size=_get(raw, "vocab_size", int),
            hidden_size=_get(raw, "hidden_size", int),
            intermediate_size=_get(raw, "intermediate_size", int),
            num_hidden_layers=_get(raw, "num_hidden_layers", int),
            num_attention_heads=_get(raw, "num_attention_heads", int),
            num_key_value_heads=_get(raw, "num_key_value_heads", int),
            rms_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
            # The class default, not the 1e6 of every released Qwen2.
            rope_theta=float(raw.get("rope_theta", 1e4)),
            max_position_embeddings=int(raw.get("max_position_embeddings", 32768)),
            mm_vision_tower=tower,
            mm_hidden_size=_get(raw, "mm_hidden_size", int),
            mm_vision_select_layer=_get(raw, "mm_vision_select_layer", int),
            vision_token_num=_get(raw, "vision_token_num", int),
            tokenizer_model_max_length=None if max_length is None else int(max_length),
        )


def _get(raw: dict[str, Any], key: str, kind: type[_Value]) -> _Value:
    value = raw.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UnsupportedError(
            f"config.json: {key} must be given as {kind.__name__}, got {value!r}"
        )
    return value
