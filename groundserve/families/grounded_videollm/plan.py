"""What serving must know of a Grounded-VideoLLM model, and the frames that it sees of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from groundserve.families.plans import DEFAULT_LIMITS, VideoPlan, check_fixed_num_frames, units_of
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions

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


def plan_video(
    index: VideoIndex,
    options: AnswerOptions,
    spec: GroundedVideoLLMSpec,
    limits: Limits = DEFAULT_LIMITS,
) -> VideoPlan:
    """Sample the frames; a unit is a segment, F of them that follow each other.

    `time_range_seconds`, of which a time token is a fraction, is the reference's: frames by average
    rate, which is not `index.duration_seconds` where the rate varies.
    """
    options.check_known(family="grounded_videollm")
    check_fixed_num_frames("grounded_videollm", spec.num_frames, limits)
    frame_indices = sample_frames(index.num_source_frames, num_frames=spec.num_frames)
    return VideoPlan(
        index=index,
        num_frames=spec.num_frames,
        frame_indices=frame_indices,
        units=units_of(frame_indices, frames_per_unit=spec.frames_per_segment),
        num_visual_tokens=spec.max_feature_tokens,
        time_range_seconds=(0.0, index.num_source_frames / index.average_fps),
    )


def sample_frames(num_source_frames: int, *, num_frames: int) -> NDArray[np.int64]:
    """Take the middle of each of `num_frames` intervals, the earlier of two.

    Of a video with fewer frames each once, then the last again and again.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `mm_utils/video_utils.py`, mode `middle`, with
    the padding of `inference.py`.
    """
    num_intervals = min(num_frames, num_source_frames)
    bounds = np.linspace(0, num_source_frames, num_intervals + 1).astype(np.int64)
    middles = (bounds[:-1] + bounds[1:] - 1) // 2
    return np.pad(middles, (0, num_frames - num_intervals), mode="edge")
