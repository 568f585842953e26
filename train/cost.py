"""What a sample costs to train on, in floating-point operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SampleFlops:
    """One item, through forward and backward passes."""

    tower: float
    """The vision tower, forward alone: it is frozen."""
    decoder: float
    """All that stands behind it, with what is computed anew in the backward pass."""


@dataclass(frozen=True, kw_only=True)
class SampleCost:
    """What samples are dealt to processes by: tower and decoder's layers, forward and backward."""

    frame: float
    token: float
    """A token in the decoder's linear layers."""
    pair: float
    """Two tokens of one sequence in its attention, whose kernels compute half of them if causal."""

    def __call__(self, *, num_frames: int, lengths: Sequence[int]) -> float:
        """Return the operations of sequences of these lengths, which are padded to the longest."""
        # A padded row costs what a real one does: matrices are multiplied whole.
        longest = max(lengths, default=0)
        # Linear layers grow with the length, attention with its square.
        decoder = longest * self.token + longest**2 * self.pair
        return num_frames * self.frame + len(lengths) * decoder
