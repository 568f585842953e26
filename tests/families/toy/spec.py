"""What serving must know of a toy model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ToySpec:
    """Read from the checkpoint's config.json, kept in the manifest."""

    image_size: int
    """S, side in pixels of the frames."""
    frame_stride: int
    """Every so many source frames one is sampled."""
    max_frames: int
    """Most frames T."""
    feature_width: int
    """D."""
    max_tokens: int | None
    """Visual and text tokens together."""

    @property
    def max_feature_tokens(self) -> int:
        """One a frame."""
        return self.max_frames
