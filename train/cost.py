"""What a sample costs to train on, in floating-point operations; products of matrices alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from groundserve.families.videoitg.config import CheckpointConfig, VisionConfig


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
        return cls(
            frame=vision.frame_flop(vision.num_layers_used(config.mm_vision_select_layer)),
            # 1 for the gradient of the inputs, one more for that of weights that are trained.
            token=(forward + 1 + is_trained) * config.linear_flop(1),
            pair=(forward + 2) * config.attention_flop(1, is_causal=is_causal),
        )

    def __call__(self, *, num_frames: int, lengths: Sequence[int]) -> float:
        """Return the operations of sequences that go through the decoder together.

        Args:
            num_frames: Of all of them, encoded once.
            lengths: Visual and text tokens of each; all are padded to the longest.
        """
        # A padded row costs what a real one does: matrices are multiplied whole.
        longest = max(lengths, default=0)
        # Linear layers grow with the length, attention with its square.
        decoder = longest * self.token + longest**2 * self.pair
        return num_frames * self.frame + len(lengths) * decoder
