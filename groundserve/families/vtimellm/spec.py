"""What serving must know of a VTimeLLM model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VTimeLLMSpec:
    """What serving must know of the model; defaults are those of the published Vicuna one."""

    num_frames: int = 100
    """T, fixed; a shorter video has frames that repeat."""
    feature_width: int = 768
    """D, width of CLIP's projected class vector, of which a frame has one."""
    max_tokens: int | None = 4096
    """Visual and text tokens together: the positions of the decoder."""
    hidden_size: int = 4096
    end_token_id: int = 2
    antialias: bool = False
    """Whether frames are resized with a filter as wide as the step between pixels, as the
    reference does with a torchvision of 0.17 or later."""

    @property
    def max_feature_tokens(self) -> int:
        """Most tokens of a video in FEATURES."""
        return self.num_frames
