"""What a sample costs to train on, in floating-point operations; products of matrices alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from groundserve.modeling.config import CheckpointConfig, VisionConfig


@dataclass(frozen=True, kw_only=True)
class SampleCost:
    """Operations of the forward passes and of the decoder's backward pass."""

    frame: float
    """A frame in the tower, which is frozen."""
    token: float
    """A token in the decoder's linear layers."""
    pair: float
    """Two tokens of one sequence in its attention, whose kernels compute half of them if causal."""

    @classmethod
    def of(
        cls,
        config: CheckpointConfig,
        vision: VisionConfig,
        *,
        is_trained: bool,
        is_causal: bool,
        recomputes: bool,
    ) -> Self:
        """Count from the shapes.

        Args:
            config: The decoder's.
            vision: The tower's.
            is_trained: Whether the decoder is; else only gradients of its inputs are computed.
            is_causal: Whether a token sees only those before it.
            recomputes: Whether layers are computed again in the backward pass.
        """
        # A product costs as much for the gradient of each of its factors as forward. Both factors
        # of the attention's products come from tokens, so these always take two more.
        forward = 1 + recomputes
        width, num_layers = config.hidden_size, config.num_hidden_layers
        return cls(
            frame=_tower(vision, num_layers=vision.num_layers_used(config.mm_vision_select_layer)),
            token=(forward + 1 + is_trained) * 2 * num_layers * _layer_weights(config),
            pair=(forward + 2) * 4 * num_layers * width / (2 if is_causal else 1),
        )

    def __call__(self, *, num_frames: int, lengths: Sequence[int]) -> float:
        """Return the operations of sequences that go through the decoder together.

        Args:
            num_frames: Of all of them, encoded once.
            lengths: Visual and text tokens of each; all are padded to the longest.
        """
        longest = max(lengths, default=0)
        decoder = longest * self.token + longest**2 * self.pair
        return num_frames * self.frame + len(lengths) * decoder


def _tower(vision: VisionConfig, *, num_layers: int) -> float:
    num_patches, width = vision.side**2, vision.hidden_size
    weights = 4 * width**2 + 2 * width * vision.intermediate_size
    return num_layers * (2.0 * num_patches * weights + 4.0 * num_patches**2 * width)


def _layer_weights(config: CheckpointConfig) -> int:
    width = config.hidden_size
    width_kv = width * config.num_key_value_heads // config.num_attention_heads
    return 2 * width * (width + width_kv) + 3 * width * config.intermediate_size
