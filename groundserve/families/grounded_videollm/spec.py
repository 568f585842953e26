"""What serving must know of a Grounded-VideoLLM model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Llm = Literal["phi3.5", "llama3"]
"""The decoder, by the name that the reference has for it."""


@dataclass(frozen=True, kw_only=True)
class GroundedVideoLLMSpec:
    """What serving must know of the model; `PHI_3_5` and `LLAMA_3` are the published ones."""

    llm: Llm
    """Which decoder: prompts differ."""
    num_segments: int = 12
    """U, stretches of the video."""
    frames_per_segment: int = 8
    """F, frames of a segment that InternVideo2 sees; CLIP sees one of them."""
    temporal_size: int = 224
    """Side in pixels of InternVideo2's frames."""
    spatial_size: int = 336
    """Side in pixels of CLIP's frames."""
    num_spatial_tokens: int
    """Tokens of a segment's key frame, row separators included."""
    num_temporal_tokens: int = 128
    """Tokens of a segment's frames."""
    feature_width: int
    """D, the decoder's width. Features are taken behind the projectors: the two towers' own widths
    differ, and one array holds both only from there on."""
    max_tokens: int | None
    """Visual and text tokens together: the positions of the decoder."""

    @property
    def tokens_per_segment(self) -> int:
        """P; a terminator ends each segment."""
        return self.num_spatial_tokens + self.num_temporal_tokens + 1

    @property
    def num_frames(self) -> int:
        """T, fixed; of a shorter video the last frame repeats."""
        return self.num_segments * self.frames_per_segment

    @property
    def key_frame(self) -> int:
        """Place in a segment of the frame that CLIP sees."""
        return self.frames_per_segment // 2

    @property
    def max_feature_tokens(self) -> int:
        """Most tokens of a video in FEATURES."""
        return self.num_segments * self.tokens_per_segment


PHI_3_5 = GroundedVideoLLMSpec(
    llm="phi3.5", num_spatial_tokens=12 * (12 + 1), feature_width=3072, max_tokens=131_072
)
"""With Phi-3.5: 12 x 12 tokens of the key frame and a separator after each row."""

LLAMA_3 = GroundedVideoLLMSpec(
    llm="llama3", num_spatial_tokens=8 * 8, feature_width=4096, max_tokens=8192
)
"""With Llama-3: 8 x 8 tokens of the key frame."""
