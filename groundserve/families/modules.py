"""The stages of a family in PyTorch: what `python_backend` runs and `engine_build` exports."""

from __future__ import annotations

from typing import Any

from torch import nn

GroundingFront = tuple[nn.Module, nn.Embedding]
"""What stands before the decoder of a GPU engine, in its dtype: projector, from FEATURES (U, P, D)
to the decoder's width, and table of text embeddings."""


class _WithAttention(nn.Module):
    config: Any = None
    """Config of transformers from which `layers` read their attention; None where none has any."""

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that hold attention; none where nothing else is said."""
        return nn.ModuleList()


class VisionModule(_WithAttention):
    """The vision stage: `forward(*streams, *plan inputs)` -> (U, P, D).

    Each plan input has the units in front, so that all inputs are batches of units. A family's
    stage does as the methods say where it can.
    """

    def prepare_export(self) -> None:
        """Compute from here on what exported graphs compute, and a GPU does well."""

    def leave_out_unread(self) -> None:
        """Leave out from here on what does not reach the features, for the graph of a CPU."""


class GroundingModule(_WithAttention):
    """Features (U, P, D) and int64 (L,) text ids -> float32 (T,), logits before the sigmoid."""


class FrontModule(nn.Module):
    """FEATURES (U, P, D) and the front's inputs -> (N, H), the video's block before the decoder.

    N is `VideoPlan.num_visual_tokens`, H the decoder's width.
    """
