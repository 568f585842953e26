"""What serving must know of a VideoITG model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VideoITGSpec:
    """What serving must know of the model; read from the checkpoint's own config."""

    image_size: int
    """Side in pixels of the square frames the vision tower takes."""
    side: int
    """Patches along one side of such a frame."""
    vision_hidden_size: int
    """D_v, width of the pooled features."""
    vision_token_num: int
    """Budget of visual tokens, which fixes the grid for a given T."""
    max_tokens: int | None
    """Visual and text tokens together; None where the checkpoint's config sets no limit."""
    pad_token_id: int
    """Text positions with this id are dropped before embedding."""

    @property
    def feature_width(self) -> int:
        """Width of the pooled features."""
        return self.vision_hidden_size

    @property
    def max_feature_tokens(self) -> int:
        """Most tokens of a video in FEATURES."""
        return self.vision_token_num
