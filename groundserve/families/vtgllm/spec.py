"""What serving must know of a VTG-LLM model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VTGLLMSpec:
    """What serving must know of the model; defaults are those of the published one."""

    num_frames: int = 96
    """Most frames T: the rows of the embedding of frames."""
    image_size: int = 224
    """Side in pixels of the square frames the vision tower takes."""
    tokens_per_frame: int = 32
    """P, queries of the Q-Former."""
    feature_width: int = 768
    """D, width of the Q-Former's vectors."""
    num_slots: int = 256
    """Visual tokens of the decoder, whatever T: all frames' vectors are pooled to so many."""
    num_time_rows: int | None = 8192
    """Rows of the embedding of seconds; None: the model has none, and knows times as text only."""
    max_tokens: int | None = None
    """Visual and text tokens together; None where the checkpoint sets no limit."""

    @property
    def max_feature_tokens(self) -> int:
        """See `groundserve.families.base.ModelSpec`."""
        return self.num_frames * self.tokens_per_frame
